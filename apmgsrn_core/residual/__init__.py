"""What a network does not say about its data, coded so that an error bound holds at every value."""
