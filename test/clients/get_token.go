// Asks for an account's token: get-token TARGET ACCOUNT.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	keyturn "keyturn.dev/proto/keyturn/v1"
)

func main() {
	conn, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request := &keyturn.GetTokenRequest{AccountId: os.Args[2]}
	answer, err := keyturn.NewCredentialServiceClient(conn).GetToken(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.AccessToken)
}
