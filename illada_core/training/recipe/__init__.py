"""What a run is to be: recipe files, the plan and its cost, the schedule. No torch."""
