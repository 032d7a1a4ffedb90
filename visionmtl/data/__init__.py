import visionmtl.data.standin  # noqa: F401
