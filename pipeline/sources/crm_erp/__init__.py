"""The source `crm_erp`: customers, products and sales of a CRM, completed with the data of an ERP."""
