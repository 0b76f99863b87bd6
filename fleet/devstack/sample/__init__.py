"""The sample project ``seo-demo`` and its keyword CSV."""
