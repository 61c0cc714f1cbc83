"""What readers see of the gold tables of retail: descriptions and units of columns, and the columns to show first."""

from collections.abc import Mapping
from typing import Any

_MONEY = "$currency"
_ORDERS = "Number of orders."
_REVENUE = "Sum of the order amounts."
_PROFIT = "Sum of the order amounts times the profit margin."
_MEAN = "Revenue divided by orders."
_CUSTOMERS = "Number of different customers with an order."
_PRODUCTS = "Number of different products in the orders."
_CLV = "Mean of the estimated lifetime value of the orders."

ANALYTICS_SUMMARY: Mapping[str, Any] = {
    "descriptions": {
        "report_date": "Batch date of the batch.",
        "total_orders": _ORDERS,
        "total_revenue": _REVENUE,
        "avg_order_value": _MEAN,
        "unique_customers": _CUSTOMERS,
        "unique_products": _PRODUCTS,
        "total_profit": _PROFIT,
        "profit_margin_percentage": "Profit as a share of revenue.",
        "avg_estimated_clv": _CLV,
        "revenue_per_customer": "Revenue divided by customers.",
        "orders_per_customer": "Orders divided by customers.",
    },
    "unit": {
        "total_revenue": _MONEY,
        "avg_order_value": _MONEY,
        "total_profit": _MONEY,
        "profit_margin_percentage": "%",
        "avg_estimated_clv": _MONEY,
        "revenue_per_customer": _MONEY,
    },
    "headline": ("total_revenue", "total_orders", "total_profit", "unique_customers", "avg_order_value"),
}
CUSTOMER_ANALYTICS: Mapping[str, Any] = {
    "descriptions": {
        "total_orders": _ORDERS,
        "total_spent": _REVENUE,
        "avg_order_value": _MEAN,
        "unique_products": _PRODUCTS,
        "unique_categories": "Number of different product categories in the orders.",
        "total_profit": _PROFIT,
        "avg_estimated_clv": _CLV,
        "customer_segment": "Segment by orders and spend.",
        "lifecycle_stage": "Stage by the days from the last order to the newest batch date.",
    },
    "unit": {"total_spent": _MONEY, "avg_order_value": _MONEY, "total_profit": _MONEY, "avg_estimated_clv": _MONEY},
    "headline": ("total_spent", "total_orders"),
}
PRODUCT_ANALYTICS: Mapping[str, Any] = {
    "descriptions": {
        "total_orders": _ORDERS,
        "total_revenue": _REVENUE,
        "avg_order_value": _MEAN,
        "unique_customers": _CUSTOMERS,
        "total_profit": _PROFIT,
        "performance_category": "Category by orders and revenue.",
        "product_lifecycle": "Stage by the days from the last order to the newest batch date.",
    },
    "unit": {"total_revenue": _MONEY, "avg_order_value": _MONEY, "total_profit": _MONEY, "price": _MONEY},
    "headline": ("total_revenue", "total_orders"),
}
SEGMENT_ANALYSIS: Mapping[str, Any] = {
    "descriptions": {
        "customers": "Number of customers of the segment.",
        "revenue": _REVENUE,
        "avg_customer_value": "Revenue divided by customers.",
    },
    "unit": {"revenue": _MONEY, "avg_customer_value": _MONEY},
    "headline": ("revenue", "customers"),
}
ORDERS_AND_REVENUE: Mapping[str, Any] = {
    "descriptions": {"orders": _ORDERS, "revenue": _REVENUE, "avg_order_value": _MEAN},
    "unit": {"revenue": _MONEY, "avg_order_value": _MONEY},
    "headline": ("revenue", "orders"),
}
DAILY_SALES: Mapping[str, Any] = {
    "descriptions": {"orders": _ORDERS, "revenue": _REVENUE, "profit": _PROFIT, "unique_customers": _CUSTOMERS},
    "unit": {"revenue": _MONEY, "profit": _MONEY},
    "headline": ("revenue", "orders"),
}
DELIVERY_PERFORMANCE: Mapping[str, Any] = {
    "descriptions": {
        "shipments": "Number of shipments.",
        "avg_delivery_days": "Mean days from the creation of a shipment to its delivery.",
        "shipping_cost": "Sum of the shipping costs.",
    },
    "unit": {"avg_delivery_days": "days", "shipping_cost": _MONEY},
    "headline": ("shipments", "avg_delivery_days"),
}
