// Command backend-app says who answers. On port 8080 it speaks HTTP and answers each request with "POD NODE CLIENT". On port
// 8081 it answers probes: over TCP with the node's name and a newline at once, then an echo of whatever comes; over UDP with
// the node's name, a space, and the datagram itself. With arguments it is a client instead, since its image holds nothing else:
//
//	backend-app get URL      prints the body, exits 1 on anything but 200
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

var pod, node = os.Getenv("POD_NAME"), os.Getenv("NODE_NAME")

func main() {
	if len(os.Args) == 3 && os.Args[1] == "get" {
		get(os.Args[2])
		return
	}
	go probesTCP()
	go probesUDP()
	requests()
}

func requests() {
	who := func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s %s\n", pod, node, r.RemoteAddr) }
	server := &http.Server{Addr: ":8080", Handler: http.HandlerFunc(who)}
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		<-ended.Done()
		server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

func probesTCP() {
	listener, err := net.Listen("tcp", ":8081")
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer connection.Close()
			fmt.Fprintln(connection, node)
			io.Copy(connection, connection)
		}()
	}
}

func probesUDP() {
	socket, err := net.ListenPacket("udp", ":8081")
	if err != nil {
		log.Fatal(err)
	}
	buffer := make([]byte, 2048)
	for {
		length, from, err := socket.ReadFrom(buffer)
		if err != nil {
			log.Fatal(err)
		}
		// A client that has gone away is no fault of this one.
		_, _ = socket.WriteTo(append([]byte(node+" "), buffer[:length]...), from)
	}
}

func get(url string) {
	client := http.Client{Timeout: 3 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	io.Copy(os.Stdout, response.Body)
	if response.StatusCode != http.StatusOK {
		log.Fatal(response.Status)
	}
}
