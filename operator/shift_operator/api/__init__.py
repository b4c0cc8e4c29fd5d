"""The API: the custom resources' types with their documentation and rules, from which the CRDs are generated. Pure."""
