"""joblib with its default backend, loky."""
