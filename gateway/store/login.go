package store

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

// PlantLogin is Plant for a jump whose login is one at an OpenID provider. Ref
// names it there, as the state of the login; Take takes it up.
func (st *Sessions) PlantLogin(session *sessions.Session, j Jump) (Jump, error) {
	j.Nonce, j.Verifier = random(secretLength), random(verifierLength)
	return st.Plant(session, j)
}

// verifierLength is the shortest that RFC 7636 allows: 256 bits.
const verifierLength = 43

// Owns reports whether a reference from Ref names a jump of this session. Only
// the browser that has the session's cookie can tell. No round trip.
func Owns(session *sessions.Session, ref string) bool {
	_, owner, ok := splitRef(ref)
	return ok && session.ID != "" && subtle.ConstantTimeCompare([]byte(owner), []byte(hash(session.ID))) == 1
}

// Take takes a jump of PlantLogin out of its session, by its reference: of two
// who try one gets it. It returns false if it is not there, no longer, or not
// one that waits for such a login. One round trip.
func (st *Sessions) Take(ctx context.Context, ref string) (Jump, bool, error) {
	id, session, ok := splitRef(ref)
	if !ok {
		return Jump{}, false, nil
	}
	key, field := st.site.key(kindSession, session), fieldJump+id
	tx := st.site.r.client.TxPipeline()
	// Sent again after a lost answer, it would find nothing.
	get := once{redis.NewCmd(ctx, "hget", key, field)}
	_ = tx.Process(ctx, get)
	tx.HDel(ctx, key, field)
	if _, err := tx.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return Jump{}, false, fail("take jump", err)
	}
	text, err := get.Text()
	switch {
	case errors.Is(err, redis.Nil):
		return Jump{}, false, nil
	case err != nil:
		return Jump{}, false, fail("take jump", err)
	}
	j, err := parseJump(id, text)
	return j, err == nil && j.Nonce != "" && j.Verifier != "" && st.site.r.now().Before(j.Expires), nil
}

// Login is what a browser need not tell its OpenID provider again for a while.
type Login struct {
	Issuer  string       `json:"issuer"` // of the provider that vouched for the user
	User    gateway.User `json:"user"`
	Expires time.Time    `json:"expires"` // set by BeginLogin, in UTC
}

// BeginLogin remembers a login for life and returns the value of the cookie
// that stands for it: 40 characters that nobody has seen before. One round trip.
func (s *Site) BeginLogin(ctx context.Context, l Login, life time.Duration) (cookie string, err error) {
	l.Expires = s.r.now().UTC().Add(life)
	record, err := json.Marshal(l)
	if err == nil && len(record) > maxGrant {
		err = fmt.Errorf("longer than %d bytes", maxGrant)
	}
	if err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	cookie = random(secretLength)
	if err := s.r.client.Set(ctx, s.loginKey(cookie), record, life).Err(); err != nil {
		return "", fail("begin login", err)
	}
	return cookie, nil
}

// Login returns the login that a cookie stands for, or false. One round trip,
// or none for what cannot be such a cookie.
func (s *Site) Login(ctx context.Context, cookie string) (Login, bool, error) {
	if !wellFormed(cookie, secretLength) {
		return Login{}, false, nil
	}
	record, err := s.r.batched.Get(ctx, s.loginKey(cookie)).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return Login{}, false, nil
	case err != nil:
		return Login{}, false, fail("read login", err)
	}
	var l Login
	if err := json.Unmarshal(record, &l); err != nil {
		return Login{}, false, fmt.Errorf("read login: record: %w", err)
	}
	return l, s.r.now().Before(l.Expires), nil
}

// EndLogin ends the login that a cookie stands for. One round trip.
func (s *Site) EndLogin(ctx context.Context, cookie string) error {
	if !wellFormed(cookie, secretLength) {
		return nil
	}
	return fail("end login", s.r.client.Del(ctx, s.loginKey(cookie)).Err())
}

func (s *Site) loginKey(cookie string) string { return s.key(kindLogin, hash(cookie)) }
