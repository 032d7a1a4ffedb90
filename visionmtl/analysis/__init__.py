"""What people learn from data, runs and networks.

``visionmtl.analysis.compare`` compares runs, ``inspect`` shows networks, ``benchmark`` measures
them; the commands of these names are their users.

>>> from visionmtl.models import create_model
>>> from visionmtl.tasks import TaskSpec
>>> tasks = [TaskSpec.depth(), TaskSpec.normals()]
>>> costs = measure_costs(create_model("test_resnet", tasks), height=64, width=64)
>>> costs.shared + sum(costs.own.values()) == costs.parameters
True
"""

from visionmtl.analysis.check import check_dataset
from visionmtl.analysis.evaluation import evaluate_model
from visionmtl.analysis.inspect.costs import measure_costs
from visionmtl.analysis.plot import draw_run

__all__ = ["check_dataset", "draw_run", "evaluate_model", "measure_costs"]
