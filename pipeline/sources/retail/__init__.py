"""The source `retail`: a shop's orders, customers, products, stock and shipments."""
