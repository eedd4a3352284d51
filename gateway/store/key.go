package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

const (
	// gatewayLife is how long a gateway counts as alive after RegisterKey.
	gatewayLife = 30 * time.Second

	maxGatewayName = 128
	maxSealedKey   = 64 << 10
	maxChain       = 1 << 20
)

// RegisterKey notes that the gateway called name, whose state directory is
// known as state, is alive, and returns the fingerprint and generation of the
// MNet key that the site's gateways have agreed on: f, if they had not, or if
// its generation is later. States are the state directories of those alive. A
// name that is empty is not noted. One round trip. It is for mnet.Keyring.
func (s *Site) RegisterKey(ctx context.Context, name, state string, f gateway.Fingerprint, generation int64) (agreed gateway.Fingerprint, of int64, states []string, err error) {
	if len(name) > maxGatewayName || len(state) > maxGatewayName {
		return agreed, 0, nil, fmt.Errorf("register key: name of gateway or state directory over %d bytes", maxGatewayName)
	}
	now := s.r.now()
	answer, err := scriptKey.Run(ctx, s.r.client, []string{s.key(kindKey, "agreed"), s.key(kindKey, "gateways")},
		micros(now), micros(now.Add(gatewayLife)), name, state, f.String(), generation, gatewayLife.Milliseconds()).StringSlice()
	if err != nil {
		return agreed, 0, nil, fail("register key", err)
	}
	if agreed, err = gateway.ParseFingerprint(answer[0]); err == nil {
		of, err = strconv.ParseInt(answer[1], 10, 64)
	}
	if err != nil {
		return agreed, 0, nil, fmt.Errorf("register key: what is agreed on: %w", err)
	}
	return agreed, of, answer[2:], nil
}

// ChangeKey makes to the agreed key if from still is, and keeps sealed, if it
// is not nil, for gateways that do not have the key. It returns the generation
// of to, or 0 if another key is agreed on. One round trip; it may be repeated.
// Of several at once one wins.
func (s *Site) ChangeKey(ctx context.Context, from, to gateway.Fingerprint, sealed []byte) (generation int64, err error) {
	if len(sealed) > maxSealedKey {
		return 0, fmt.Errorf("change key: over %d bytes", maxSealedKey)
	}
	generation, err = scriptChangeKey.Run(ctx, s.r.client, []string{s.key(kindKey, "agreed"), s.key(kindKey, "sealed")},
		from.String(), to.String(), sealed).Int64()
	return generation, fail("change key", err)
}

// SealedKey returns what ChangeKey kept for a key, or nil. One round trip.
func (s *Site) SealedKey(ctx context.Context, f gateway.Fingerprint) ([]byte, error) {
	sealed, err := s.r.client.HGet(ctx, s.key(kindKey, "sealed"), f.String()).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return sealed, fail("fetch key", err)
}

// Chain returns the refreshes of a peer's key that KeepChain kept, or nil. One
// round trip. It is for mnet.Pins.
func (s *Site) Chain(ctx context.Context, peer gateway.Wwwroot) ([]byte, error) {
	chain, err := s.r.client.Get(ctx, s.key(kindChain, peer.String())).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return chain, fail("read refreshes", err)
}

// KeepChain keeps the refreshes of a peer's key for all gateways of the site.
// One round trip.
func (s *Site) KeepChain(ctx context.Context, peer gateway.Wwwroot, chain []byte) error {
	if len(chain) > maxChain {
		return fmt.Errorf("keep refreshes: over %d bytes", maxChain)
	}
	return fail("keep refreshes", s.r.client.Set(ctx, s.key(kindChain, peer.String()), chain, 0).Err())
}
