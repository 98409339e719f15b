"""threadpoolctl can see and limit dlcore's thread team, as it does those of BLAS and OpenMP."""

import sys


def register():
    """Tell threadpoolctl about dlcore's team, if it is imported and has not been told before."""
    threadpoolctl = sys.modules.get("threadpoolctl")
    if threadpoolctl is None or not hasattr(threadpoolctl, "register"):
        return
    if any(c.internal_api == "dlcore" for c in threadpoolctl._ALL_CONTROLLERS):
        return
    from dlcore import _cpu

    class DlcoreController(threadpoolctl.LibController):
        """Controller of dlcore's thread team."""

        user_api = internal_api = "dlcore"
        filename_prefixes = ("_cpu.",)
        check_symbols = ("PyInit__cpu",)

        def get_num_threads(self):
            return _cpu.get_num_threads()

        def set_num_threads(self, num_threads):
            _cpu.set_num_threads(num_threads)

        def get_version(self):
            return None

    threadpoolctl.register(DlcoreController)
