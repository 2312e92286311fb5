//! The agent's inside, for the simulation and the fuzz targets.
