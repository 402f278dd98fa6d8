"""temporary"""
from typing import Any
class Summary:
    def __init__(self, d): self.d = d
    def json(self): return self.d
    def text(self): return str(self.d)
def summarise(settings, config, data, mesh, workdir, manager, seconds) -> Any:
    return Summary({"seconds": seconds})
