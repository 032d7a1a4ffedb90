"""What the kinds draw with: colours, scales, legends, contact sheets.

Every function that makes a picture returns a new uint8 (H, W, 3) RGB array. Pixels without a value
are black.
"""

from visionmtl.tasks.drawing.files import save_image
from visionmtl.tasks.drawing.palette import palette
from visionmtl.tasks.drawing.scale import coloured, draw_values, share_of, with_scale
from visionmtl.tasks.drawing.sheet import GAP, grid

__all__ = [
    "GAP",
    "coloured",
    "draw_values",
    "grid",
    "palette",
    "save_image",
    "share_of",
    "with_scale",
]
