// Command backend-app answers every question with who answered: one line "POD NODE CLIENT" over HTTP and over UDP, both on
// port 8080 (or $PORT). With an argument it is a client instead, since its image holds nothing else:
//
//	backend-app get URL      prints the body, exits 1 on anything but 200
//
// GET /long streams a line every 100 ms until the client leaves: a long-lived TCP flow.
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

func main() {
	if len(os.Args) == 3 && os.Args[1] == "get" {
		get(os.Args[2])
		return
	}
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	go answerUDP(port)
	answerHTTP(port)
}

func line(client string) string {
	return fmt.Sprintf("%s %s %s\n", os.Getenv("POD_NAME"), os.Getenv("NODE_NAME"), client)
}

func answerHTTP(port string) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, line(r.RemoteAddr)) })
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, line(r.RemoteAddr)); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(100 * time.Millisecond)
		}
	})
	server := &http.Server{Addr: ":" + port, Handler: mux}
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

func answerUDP(port string) {
	socket, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		log.Fatal(err)
	}
	buffer := make([]byte, 2048)
	for {
		n, from, err := socket.ReadFrom(buffer)
		if err != nil {
			log.Fatal(err)
		}
		// The question comes back in front of the answer, so that a prober can tell its datagrams apart.
		socket.WriteTo(append(buffer[:n:n], []byte(" "+line(from.String()))...), from)
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
