NAME = "tile"
TYPES: dict[str, tuple[str, ...]] = {"tile": ("shape", "element", "layout")}
OPERATIONS = ()
