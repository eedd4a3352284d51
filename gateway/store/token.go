package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

const (
	// TokenLife is how long a token may be redeemed (protocol page, section 7).
	TokenLife = 30 * time.Second
	// tokenKept is how long Redis remembers it, so that a late peer learns
	// that the token expired and not that there never was one.
	tokenKept = 60 * time.Second
	// NonceLife is how long a message cannot be replayed.
	NonceLife = 24 * time.Hour

	maxGrant = 64 << 10 // bytes of a Grant as JSON
)

// Grant is what a token stands for: user may log in at peer.
type Grant struct {
	User gateway.User    `json:"user"`
	Peer gateway.Wwwroot `json:"peer"`
	// UserAgent is the hexadecimal SHA-1 of the browser's User-Agent header
	// (protocol page, section 5.3).
	UserAgent string `json:"useragent"`
	// Issued and Expires are set by Mint and Claim, in UTC.
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

// Mint makes a token of 40 characters from [A-Za-z0-9] that can be redeemed
// once within TokenLife. One round trip.
func (s *Site) Mint(ctx context.Context, g Grant) (token string, err error) {
	token, record, err := s.newToken(g)
	if err != nil {
		return "", err
	}
	if err := s.r.batched.Set(ctx, s.tokenKey(token), record, tokenKept).Err(); err != nil {
		return "", fail("mint token", err)
	}
	return token, nil
}

func (s *Site) tokenKey(token string) string { return s.key(kindToken, hash(token)) }

func (s *Site) newToken(g Grant) (token string, record []byte, err error) {
	if g.Peer.IsZero() {
		return "", nil, errors.New("grant names no peer")
	}
	g.Issued = s.r.now().UTC()
	g.Expires = g.Issued.Add(TokenLife)
	record, err = json.Marshal(g)
	if err != nil {
		return "", nil, fmt.Errorf("grant: %w", err)
	}
	if len(record) > maxGrant {
		return "", nil, fmt.Errorf("grant is longer than %d bytes", maxGrant)
	}
	return random(secretLength), record, nil
}

// Redeem burns token and returns its grant. nonce identifies the message that
// asks (the SHA-256 of its RC4 key): it is marked as seen, and a message seen
// before gets ErrReplayed and no grant. ErrNoToken means unknown or redeemed
// before, ErrTokenExpired that it was redeemed too late. That the right peer
// and browser ask is for the caller to check. One round trip.
func (s *Site) Redeem(ctx context.Context, nonce [32]byte, token string) (Grant, error) {
	tx := s.r.client.TxPipeline()
	seen := s.markSeen(ctx, nonce)
	_ = tx.Process(ctx, seen)
	get := tx.GetDel(ctx, s.tokenKey(token))
	if _, err := tx.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return Grant{}, fail("redeem token", err)
	}
	if errors.Is(seen.Err(), redis.Nil) {
		return Grant{}, ErrReplayed
	}
	record, err := get.Bytes()
	if errors.Is(err, redis.Nil) {
		return Grant{}, ErrNoToken
	}
	if err := errors.Join(seen.Err(), err); err != nil {
		return Grant{}, fail("redeem token", err)
	}
	var g Grant
	if err := json.Unmarshal(record, &g); err != nil {
		return Grant{}, fmt.Errorf("redeem token: record: %w", err)
	}
	if !s.r.now().Before(g.Expires) {
		return Grant{}, ErrTokenExpired
	}
	return g, nil
}

// Replayed marks nonce as seen and reports whether it was before: for messages
// that redeem no token. One round trip.
func (s *Site) Replayed(ctx context.Context, nonce [32]byte) (bool, error) {
	seen := s.markSeen(ctx, nonce)
	err := s.r.client.Process(ctx, seen)
	if errors.Is(err, redis.Nil) {
		return true, nil
	}
	return false, fail("check replay", err)
}

// markSeen returns the command that answers nil if nonce was seen before.
func (s *Site) markSeen(ctx context.Context, nonce [32]byte) redis.Cmder {
	return once{redis.NewCmd(ctx, "set", s.nonceKey(nonce), 1, "nx", "px", NonceLife.Milliseconds())}
}

func (s *Site) nonceKey(nonce [32]byte) string {
	return s.key(kindNonce, base64.RawURLEncoding.EncodeToString(nonce[:]))
}

// once is a command that go-redis must not send again when the answer was
// lost: a nonce would seem replayed, a token unknown, though they were not.
type once struct{ *redis.Cmd }

// NoRetry is asked by go-redis.
func (once) NoRetry() bool { return true }
