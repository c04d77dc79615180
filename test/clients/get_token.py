"""Asks for an account's token: get_token.py TARGET ACCOUNT."""
import sys

import grpc
from keyturn.v1 import credential_service_pb2 as pb
from keyturn.v1 import credential_service_pb2_grpc as keyturn

target, account = sys.argv[1:]
with grpc.insecure_channel(target) as channel:
    stub = keyturn.CredentialServiceStub(channel)
    print(stub.GetToken(pb.GetTokenRequest(account_id=account), timeout=10).access_token)
