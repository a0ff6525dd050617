"""How data sets are read: functions of (name, split, **options), which cards name as their `reader`.

Importing this package registers all of them.
"""

from shared.zoo.readers import _images, _tables, _texts

__all__ = ["_images", "_tables", "_texts"]
