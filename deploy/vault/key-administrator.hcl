# What the key's administrator may do: make a new version, and end the use of old ones. Neither use the key nor delete,
# export or trim it. Its token is handed to `keyturn keys rotate` and `keyturn keys retire`, and kept by no sidecar.

path "transit/keys/keyturn" {
  capabilities = ["read"]
}

path "transit/keys/keyturn/rotate" {
  capabilities = ["update"]
}

path "transit/keys/keyturn/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_encryption_version" = []
    "min_decryption_version" = []
  }
}
