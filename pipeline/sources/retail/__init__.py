"""The source `retail`: orders, customers, products, stock and shipments of a shop."""
