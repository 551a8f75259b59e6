//! gannet-tune: measures a machine and explains a configuration.
