"""What a study will take: FLOPs, memory, disk, hours, energy and cost, from settings and shapes alone."""
