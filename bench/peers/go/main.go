// The library that Centrifugo is built on, with its memory engine and history, as a server of its
// own: viewers over SSE and WebSocket, events from a ticker inside. centrifuge PORT
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/centrifugal/centrifuge"
)

const (
	filler      = " the quick brown fox jumps over the lazy dog while seven wizards box"
	historySize = 20000
	historyTTL  = 10 * time.Minute
)

var started = time.Now()

// Microseconds of CLOCK_MONOTONIC, which Go hides: its reading at the start plus what passed.
var startedAt = monotonic()

func stamp() int64 {
	return startedAt + time.Since(started).Microseconds()
}

func payload(seq, size int) string {
	mark := fmt.Sprintf("@%d:%d;", stamp(), seq)
	missing := size - len(mark)
	if missing <= 0 {
		return mark
	}
	return mark + strings.Repeat(filler, missing/len(filler)+1)[:missing]
}

func tick(node *centrifuge.Node, rate float64, count, size, groups int) {
	begin := time.Now()
	step := float64(time.Second) / (rate * float64(groups))
	for number := range count * groups {
		time.Sleep(time.Until(begin.Add(time.Duration(step * float64(number)))))
		seq := number/groups + 1
		data := fmt.Sprintf(`{"type":"text","content":"%s","position":%d}`, payload(seq, size), seq)
		channel := "topic" + strconv.Itoa(number%groups)
		if _, err := node.Publish(channel, []byte(data),
			centrifuge.WithHistory(historySize, historyTTL)); err != nil {
			log.Fatal(err)
		}
	}
}

func number(request *http.Request, name string) float64 {
	value, err := strconv.ParseFloat(request.URL.Query().Get(name), 64)
	if err != nil {
		log.Fatal(name, err)
	}
	return value
}

func newNode() *centrifuge.Node {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		log.Fatal(err)
	}
	// Subscribed by the server as they connect, since an EventSource can send nothing.
	node.OnConnecting(func(
		_ context.Context, event centrifuge.ConnectEvent,
	) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials: &centrifuge.Credentials{},
			Subscriptions: map[string]centrifuge.SubscribeOptions{
				"topic" + event.Name: {EnableRecovery: true},
			},
		}, nil
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	return node
}

func main() {
	node := newNode()
	mux := http.NewServeMux()
	mux.Handle("/sse", centrifuge.NewSSEHandler(node, centrifuge.SSEConfig{
		// An EventSource cannot answer a ping.
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: 25 * time.Second, PongTimeout: -1},
	}))
	mux.Handle("/ws", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		Compression:      true,
		CompressionLevel: 1, // Centrifugo's own default; 0 would only store
		// Compressed once for all viewers, as Centrifugo's documentation advises.
		CompressionPreparedMessageCacheSize: 1 << 20,
	}))
	mux.HandleFunc("POST /start", func(response http.ResponseWriter, request *http.Request) {
		go tick(node, number(request, "rate"), int(number(request, "count")),
			int(number(request, "bytes")), int(number(request, "groups")))
		response.WriteHeader(http.StatusNoContent)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, mux))
}
