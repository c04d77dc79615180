# What a sidecar may do: use the key `keyturn` of the Transit engine at `transit`, and keep its own token alive.
# `update` alone: with `create`, encrypting under a name that is not there would silently make a key.

path "transit/encrypt/keyturn" {
  capabilities = ["update"]
}

path "transit/decrypt/keyturn" {
  capabilities = ["update"]
}

path "transit/rewrap/keyturn" {
  capabilities = ["update"]
}

path "transit/keys/keyturn" {
  capabilities = ["read"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
