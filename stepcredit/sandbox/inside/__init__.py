"""Programs that run on the other side of the wall: each stands alone and imports nothing of ours."""
