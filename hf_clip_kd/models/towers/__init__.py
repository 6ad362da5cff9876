"""Reading any image tower: tokens, grid, patches in the joint space, and dropped patches."""
