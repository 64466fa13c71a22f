"""The version of lrp_fx, read by the build and by ``lrp_fx.__version__``."""

__version__ = "0.1.0"
