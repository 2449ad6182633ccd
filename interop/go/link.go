package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/FISCO-BCOS/go-sdk/client"
	"github.com/FISCO-BCOS/go-sdk/conf"
)

// Bytes repeat with a prime period, so that no two pieces of a cut message are alike.
const period = 251

var errorCode = regexp.MustCompile(`(?:error code|response error:) ?(-?\d+)`)

// A link is one SDK client, connected to one node.
type link struct {
	as     string
	client *client.Client
	// Milliseconds from construction to being usable.
	connectedAfter float64
}

// What became of one send.
type outcome struct {
	answer []byte
	err    error
}

func connect(c command) (*link, error) {
	// The SDK wants a key for an account on the chain; there is none, and it is never used.
	account := make([]byte, 32)
	account[31] = 1
	config := conf.Config{
		ChainID:    1,
		GroupID:    1,
		CAFile:     filepath.Join(c.Certs, "ca.crt"),
		Key:        filepath.Join(c.Certs, "sdk.key"),
		Cert:       filepath.Join(c.Certs, "sdk.crt"),
		PrivateKey: account,
		NodeURL:    c.Node,
	}
	start := time.Now()
	dialled, err := dial(config, time.Duration(c.PatienceMS)*time.Millisecond)
	if err != nil {
		return nil, err
	}
	return &link{c.As, dialled, since(start)}, nil
}

// dial gives up a Dial that hangs and tries again, if it is told to. The SDK up to 1.0.0 sends its first question and
// only then prepares for the answer: one that comes at once is lost, and Dial waits for it for ever.
func dial(config conf.Config, patience time.Duration) (*client.Client, error) {
	if patience == 0 {
		return client.Dial(&config)
	}
	type dialled struct {
		client *client.Client
		err    error
	}
	for attempt := 0; attempt < 10; attempt++ {
		done := make(chan dialled, 1)
		own := config
		go func() {
			c, err := client.Dial(&own)
			done <- dialled{c, err}
		}()
		select {
		case got := <-done:
			return got.client, got.err
		case <-time.After(patience):
		}
	}
	return nil, errors.New("the SDK hangs in Dial, every time")
}

func (l *link) subscribe(c command) error {
	err := l.client.SubscribeTopic(c.Topic, l.teller(c))
	if err == nil {
		say(map[string]any{"event": "subscribed", "as": l.as, "topic": c.Topic})
	}
	return err
}

// teller tells the driver of messages and answers them.
func (l *link) teller(c command) func([]byte, *[]byte) {
	return func(data []byte, response *[]byte) {
		// The SDK does not tell the callback whether it was a unicast.
		say(described(data, map[string]any{"event": "message", "as": l.as, "topic": c.Topic}))
		*response = answer(c.Answer, data)
	}
}

// send does it as often as asked, each time within the time limit, because the SDK has none of its own.
func (l *link) send(c command, once func(command, []byte) outcome) {
	data := payload(c)
	limit := time.Duration(c.TimeoutMS) * time.Millisecond
	if limit == 0 {
		limit = 10 * time.Second
	}
	times := []float64{}
	event := map[string]any{}
	for i := 0; i < max(c.Count, 1); i++ {
		done := make(chan outcome, 1)
		start := time.Now()
		go func() { done <- once(c, data) }()
		event = within(done, limit)
		times = append(times, since(start))
		if event["code"] != 0 {
			break
		}
	}
	event["event"], event["as"], event["id"], event["ms"] = "outcome", l.as, c.ID, times
	say(event)
}

func (l *link) request(c command, data []byte) outcome {
	got, err := l.client.SendAMOPMsg(c.Topic, data)
	return outcome{got, err}
}

func (l *link) multicast(c command, data []byte) outcome {
	return outcome{nil, l.client.BroadcastAMOPMsg(c.Topic, data)}
}

func within(done chan outcome, limit time.Duration) map[string]any {
	select {
	case got := <-done:
		if got.err == nil {
			return described(got.answer, map[string]any{"code": 0})
		}
		return map[string]any{"code": codeOf(got.err), "why": got.err.Error()}
	case <-time.After(limit):
		return map[string]any{"code": nil, "why": "the SDK has not come back"}
	}
}

// codeOf finds the code in the SDK's error, which has it in its text only.
func codeOf(err error) any {
	found := errorCode.FindStringSubmatch(err.Error())
	if found == nil {
		return nil
	}
	code, _ := strconv.Atoi(found[1])
	return code
}

func payload(c command) []byte {
	if c.Text != "" {
		return []byte(c.Text)
	}
	data := make([]byte, c.Size)
	for i := range data {
		data[i] = byte((i + c.Seed) % period)
	}
	return data
}

func answer(said json.RawMessage, data []byte) []byte {
	var text struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(said, &text) == nil && text.Text != "" {
		return []byte(text.Text)
	}
	return data
}

func described(data []byte, event map[string]any) map[string]any {
	hash := sha256.Sum256(data)
	event["bytes"], event["sha256"] = len(data), hex.EncodeToString(hash[:])
	return event
}

func since(start time.Time) float64 {
	return float64(time.Since(start).Microseconds()) / 1000
}
