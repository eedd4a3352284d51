package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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

	maxGrant = 64 << 10 // bytes of a Grant as it is stored
)

// Grant is what a token stands for: user may log in at peer.
type Grant struct {
	User gateway.User    `json:"user"`
	Peer gateway.Wwwroot `json:"peer"`
	// UserAgent is the hexadecimal SHA-1 of the browser's User-Agent header
	// (protocol page, section 5.3).
	UserAgent string `json:"useragent"`
	// Home is the Moodle session that the jump came from, sealed by the
	// caller, without blanks; HomeHash is its HomeHash.
	Home     string `json:"home"`
	HomeHash string `json:"homehash"`
	// Issued and Expires are set by Mint and Claim, in UTC.
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// Picture and Again are set by Redeem. Again says that the peer may still
	// know of an earlier session of this learner and browser.
	Picture Picture `json:"-"`
	Again   bool    `json:"-"`
}

// Mint makes a token of 40 characters from [A-Za-z0-9] that can be redeemed
// once within TokenLife. The charges are charged with it: a *RateError means
// that one of them refuses, and that none was. One round trip.
func (s *Site) Mint(ctx context.Context, g Grant, charges ...Charge) (token string, err error) {
	token, record, err := s.newToken(g)
	if err != nil {
		return "", err
	}
	if charges = limiting(charges); len(charges) == 0 {
		err = s.r.batched.Set(ctx, s.tokenKey(token), record, tokenKept).Err()
	} else {
		keys, args := s.charged([]string{s.tokenKey(token)}, []any{micros(s.r.now()), record, tokenKept.Milliseconds()}, charges)
		_, err = verdict(scriptMint.Run(ctx, s.r.batched, keys, args...), charges)
	}
	if err != nil {
		return "", failRate("mint token", err)
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
	if err := g.checkHome(); err != nil {
		return "", nil, err
	}
	text, err := json.Marshal(g)
	if err != nil {
		return "", nil, fmt.Errorf("grant: %w", err)
	}
	record = fmt.Appendf(nil, "%d %s", micros(g.Expires), text)
	if len(record) > maxGrant {
		return "", nil, fmt.Errorf("grant is longer than %d bytes", maxGrant)
	}
	return random(secretLength), record, nil
}

// Redeemer is who redeems a token.
type Redeemer struct {
	Peer      gateway.Wwwroot
	Aliases   []gateway.Wwwroot // of the peer, for which the token may have been made before it moved
	UserAgent string            // of the browser, as in a Grant
	Life      time.Duration     // of the session that begins
}

// aliases returns the aliases with a blank around each, which no wwwroot has.
func (by Redeemer) aliases() string {
	var b strings.Builder
	for _, alias := range by.Aliases {
		b.WriteString(" " + alias.String() + " ")
	}
	return b.String()
}

// Redeem burns token, begins the learner's session at the peer (see
// PeerSession), in place of one in the same browser, and returns the token's
// grant. nonce identifies the message that asks (the SHA-256 of its RC4 key):
// it is marked as seen, and a message seen before gets ErrReplayed and no
// grant. ErrNoToken means unknown or redeemed before, ErrTokenExpired that it
// was redeemed too late, ErrOtherPeer and ErrOtherBrowser that it was made for
// another one, ErrLoggedOut that the Moodle session it came from is over or
// an administrator ended all of the learner's. One round trip.
func (s *Site) Redeem(ctx context.Context, nonce [32]byte, token string, by Redeemer) (Grant, error) {
	answer, err := s.r.runOnce(ctx, scriptRedeem, redeemLua,
		[]string{s.nonceKey(nonce), s.tokenKey(token)},
		micros(s.r.now()), NonceLife.Milliseconds(), by.Peer.String(), by.UserAgent,
		by.Life.Milliseconds(), PeerSessionRecent.Milliseconds(), maxPeerSessions, s.key(kindLearner, ""), s.key(kindHome, ""),
		s.key(kindPicture, ""), ReportLife.Milliseconds(), by.aliases(), s.key(kindEnded, ""), endedUser, TokenLife.Microseconds())
	if err != nil {
		return Grant{}, fail("redeem token", err)
	}
	if len(answer) == 4 {
		var g Grant
		record, _ := answer[1].(string)
		picture, _ := answer[2].(string)
		if err := json.Unmarshal([]byte(record), &g); err != nil {
			return Grant{}, fmt.Errorf("redeem token: record: %w", err)
		}
		if g.Picture, err = parsePicture(picture); err != nil {
			return Grant{}, fmt.Errorf("redeem token: picture: %w", err)
		}
		g.Again = answer[3] == int64(1)
		return g, nil
	}
	for result, err := range redeemErrors {
		if len(answer) == 1 && answer[0] == result {
			return Grant{}, err
		}
	}
	return Grant{}, errors.New("redeem token: unexpected answer of the script")
}

var redeemErrors = map[string]error{
	"replayed": ErrReplayed, "unknown": ErrNoToken, "expired": ErrTokenExpired,
	"peer": ErrOtherPeer, "browser": ErrOtherBrowser, "logout": ErrLoggedOut,
}

// Replayed marks nonce as seen and reports whether it was before: for messages
// that redeem no token. One round trip.
func (s *Site) Replayed(ctx context.Context, nonce [32]byte) (bool, error) {
	return s.ReplayedWithin(ctx, nonce, NonceLife)
}

// ReplayedWithin is Replayed for what is not worth remembering as long.
func (s *Site) ReplayedWithin(ctx context.Context, nonce [32]byte, life time.Duration) (bool, error) {
	seen := once{redis.NewCmd(ctx, "set", s.nonceKey(nonce), 1, "nx", "px", life.Milliseconds())}
	err := s.r.client.Process(ctx, seen)
	if errors.Is(err, redis.Nil) {
		return true, nil
	}
	return false, fail("check replay", err)
}

func (s *Site) nonceKey(nonce [32]byte) string {
	return s.key(kindNonce, base64.RawURLEncoding.EncodeToString(nonce[:]))
}

// once is a command that go-redis must not send again when the answer was
// lost: a nonce would seem replayed, a token unknown, though they were not.
type once struct{ *redis.Cmd }

// NoRetry is asked by go-redis.
func (once) NoRetry() bool { return true }
