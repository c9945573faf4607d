"""The only folder that knows SQL, and the only importer of `databases`."""
