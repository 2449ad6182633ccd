package main

import (
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/FISCO-BCOS/go-sdk/conf"
	"github.com/ethereum/go-ethereum/crypto"
)

// A key of a private topic, in a file: "pem", which the SDK reads, or "hex", which go-ethereum does.
type key struct {
	Format string `json:"format"`
	File   string `json:"file"`
}

func (l *link) subscribePrivate(c command) error {
	own, err := c.Key.private()
	if err == nil {
		err = l.client.SubscribePrivateTopic(c.Topic, own, l.teller(c))
	}
	if err == nil {
		say(map[string]any{"event": "subscribed", "as": l.as, "topic": c.Topic})
	}
	return err
}

func (l *link) unsubscribePrivate(c command) error {
	err := l.client.UnsubscribePrivateTopic(c.Topic)
	if err == nil {
		say(map[string]any{"event": "unsubscribed", "as": l.as, "topic": c.Topic})
	}
	return err
}

// publishPrivate says whose subscriptions are to be trusted.
func (l *link) publishPrivate(c command) error {
	trusted := make([]*ecdsa.PublicKey, len(c.Keys))
	for i, one := range c.Keys {
		public, err := one.public()
		if err != nil {
			return err
		}
		trusted[i] = public
	}
	err := l.client.PublishPrivateTopic(c.Topic, trusted)
	if err == nil {
		say(map[string]any{"event": "published", "as": l.as, "topic": c.Topic})
	}
	return err
}

func (l *link) requestPrivate(c command, data []byte) outcome {
	got, err := l.client.SendAMOPPrivateMsg(c.Topic, data)
	return outcome{got, err}
}

func (l *link) multicastPrivate(c command, data []byte) outcome {
	return outcome{nil, l.client.BroadcastAMOPPrivateMsg(c.Topic, data)}
}

func (k key) private() (*ecdsa.PrivateKey, error) {
	switch k.Format {
	case "pem":
		raw, _, err := conf.LoadECPrivateKeyFromPEM(k.File)
		if err != nil {
			return nil, err
		}
		return crypto.ToECDSA(raw)
	case "hex":
		digits, err := os.ReadFile(k.File)
		if err != nil {
			return nil, err
		}
		return crypto.HexToECDSA(strings.TrimSpace(string(digits)))
	default:
		return nil, fmt.Errorf("no such format: %q", k.Format)
	}
}

func (k key) public() (*ecdsa.PublicKey, error) {
	var raw []byte
	var err error
	switch k.Format {
	case "pem":
		raw, _, err = conf.LoadECPublicKeyFromPEM(k.File)
	case "hex":
		var digits []byte
		if digits, err = os.ReadFile(k.File); err == nil {
			// go-ethereum wants the mark of an uncompressed point before it.
			raw, err = hex.DecodeString("04" + strings.TrimSpace(string(digits)))
		}
	default:
		err = fmt.Errorf("no such format: %q", k.Format)
	}
	if err != nil {
		return nil, err
	}
	return crypto.UnmarshalPubkey(raw)
}
