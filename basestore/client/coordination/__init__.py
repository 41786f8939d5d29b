"""What programs do with several calls of a store together: transactions, leases and locks."""
