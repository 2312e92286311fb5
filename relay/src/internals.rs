//! The relay's inside, for the simulation and the fuzz targets.
