// Does what JSON lines on standard input ask, and says what happened in JSON lines on standard output, with the
// published Go SDK for FISCO BCOS 2.x. The commands are those of every program of this directory;
// interop/README.md lists them.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
)

// A command from the driver.
type command struct {
	Do        string `json:"do"`
	As        string `json:"as"`
	ID        int64  `json:"id"`
	Node      string `json:"node"`
	Certs     string `json:"certs"`
	Topic     string `json:"topic"`
	Text      string `json:"text"`
	Size      int    `json:"size"`
	Seed      int    `json:"seed"`
	Count     int    `json:"count"`
	TimeoutMS int64  `json:"timeout_ms"`
	// Dial again when it has not come back by then; 0: wait for ever, as the SDK does.
	PatienceMS int64 `json:"patience_ms"`
	// "echo", or {"text": …}.
	Answer json.RawMessage `json:"answer"`
	// Of a private topic: the subscriber's own key, and the keys that its publisher trusts.
	Key  key   `json:"key"`
	Keys []key `json:"keys"`
}

var (
	output sync.Mutex
	links  sync.Map
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Fprintf(os.Stderr, "not a command: %v\n", err)
			os.Exit(2)
		}
		if c.Do == "quit" {
			return
		}
		go func() {
			if err := run(c); err != nil {
				say(map[string]any{"event": "failed", "as": c.As, "id": c.ID, "why": err.Error()})
			}
		}()
	}
}

// say prints one line for the driver.
func say(event map[string]any) {
	line, err := json.Marshal(event)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

func run(c command) error {
	if c.Do == "connect" {
		l, err := connect(c)
		if err == nil {
			links.Store(c.As, l)
			say(map[string]any{"event": "connected", "as": c.As, "ms": l.connectedAfter})
		}
		return err
	}
	found, ok := links.Load(c.As)
	if !ok {
		return fmt.Errorf("nothing is connected as %s", c.As)
	}
	l := found.(*link)
	switch c.Do {
	case "subscribe":
		return l.subscribe(c)
	case "request":
		l.send(c, l.request)
	case "multicast":
		l.send(c, l.multicast)
	case "private_subscribe":
		return l.subscribePrivate(c)
	case "private_unsubscribe":
		return l.unsubscribePrivate(c)
	case "private_topic":
		return l.publishPrivate(c)
	case "private_request":
		l.send(c, l.requestPrivate)
	case "private_multicast":
		l.send(c, l.multicastPrivate)
	case "close":
		links.Delete(c.As)
		l.client.Close()
		say(map[string]any{"event": "closed", "as": c.As})
	default:
		return fmt.Errorf("unknown command %q", c.Do)
	}
	return nil
}
