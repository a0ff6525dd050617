"""The static site. `shared.compendium` is imported first: it spares jsonschema two seconds of grammar (see there)."""

import shared.compendium  # noqa: F401
