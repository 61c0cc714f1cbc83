"""The source `crm_erp`: customers, products and sales of a CRM, with what an ERP knows of the same customers and products."""
