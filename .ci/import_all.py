"""Import every module of the package, and say which need something that is not installed."""

import sys
from importlib import import_module
from pkgutil import walk_packages

import visionmtl

failed = []
names = [module.name for module in walk_packages(visionmtl.__path__, "visionmtl.")]
for name in names:
    if name.endswith("__main__"):
        continue
    try:
        import_module(name)
    except ImportError as error:
        failed.append(f"{name}: {error}")
print(f"{len(names)} modules", *failed, sep="\n")
sys.exit(bool(failed))
