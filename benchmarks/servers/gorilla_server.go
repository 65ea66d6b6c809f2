// Go's gorilla/websocket on net/http, as its examples are written; broadcasts are prepared once for all.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"runtime"
	"sync"

	"github.com/gorilla/websocket"
)

type request struct {
	ID      int      `json:"id"`
	User    string   `json:"user"`
	Amounts []int    `json:"amounts"`
	Tags    []string `json:"tags"`
	At      string   `json:"at"`
}

type reply struct {
	ID    int      `json:"id"`
	OK    bool     `json:"ok"`
	User  string   `json:"user"`
	Total int      `json:"total"`
	Tags  []string `json:"tags"`
	At    string   `json:"at"`
}

type member struct {
	sync.Mutex
	*websocket.Conn
}

var everybody sync.Map

func publish(kind int, message []byte) error {
	prepared, err := websocket.NewPreparedMessage(kind, message)
	if err != nil {
		return err
	}
	everybody.Range(func(key, _ any) bool {
		one := key.(*member)
		one.Lock()
		defer one.Unlock()
		_ = one.WritePreparedMessage(prepared)
		return true
	})
	return nil
}

func answer(message []byte) ([]byte, error) {
	var asked request
	if err := json.Unmarshal(message, &asked); err != nil {
		return nil, err
	}
	total := 0
	for _, one := range asked.Amounts {
		total += one
	}
	return json.Marshal(reply{asked.ID, true, asked.User, total, asked.Tags, asked.At})
}

func main() {
	port := flag.String("port", "", "")
	broadcast := flag.Bool("broadcast", false, "")
	deflate := flag.Bool("deflate", false, "")
	style := flag.String("style", "echo", "")
	cert := flag.String("cert", "", "")
	version := flag.Bool("version", false, "")
	flag.Parse()
	if *version {
		fmt.Println(runtime.Version())
		return
	}
	upgrader := websocket.Upgrader{EnableCompression: *deflate, WriteBufferPool: &sync.Pool{}}
	handle := func(writer http.ResponseWriter, asked *http.Request) {
		connection, err := upgrader.Upgrade(writer, asked, nil)
		if err != nil {
			return
		}
		defer connection.Close()
		_ = connection.SetCompressionLevel(1)
		if *broadcast {
			own := &member{Conn: connection}
			everybody.Store(own, true)
			defer everybody.Delete(own)
		}
		for {
			kind, message, err := connection.ReadMessage()
			if err != nil {
				return
			}
			if *broadcast {
				err = publish(kind, message)
			} else {
				if *style == "json" {
					message, err = answer(message)
				}
				if err == nil {
					err = connection.WriteMessage(kind, message)
				}
			}
			if err != nil {
				return
			}
		}
	}
	server := http.Server{Addr: "127.0.0.1:" + *port, Handler: http.HandlerFunc(handle)}
	if *cert == "" {
		panic(server.ListenAndServe())
	}
	panic(server.ListenAndServeTLS(*cert, *cert))
}
