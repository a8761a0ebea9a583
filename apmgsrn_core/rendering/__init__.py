"""Pictures: cameras, transfer functions, rays, macrocells."""
