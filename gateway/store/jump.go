package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

const (
	// JumpLife is how long a jump waits for its login.
	JumpLife = 15 * time.Minute
	// MaxJumps is how many jumps a browser may have waiting; the oldest makes
	// room for the newest.
	MaxJumps = 16

	jumpIDLength = 22 // 130 bits
	maxWantsurl  = 2048
	maxLogin     = 128

	fieldJump  = "jump:" // + id: when it ends in µs, a blank, the Jump as JSON
	fieldLogin = "login"
)

// Jump waits in a browser's session for the login that completes it.
type Jump struct {
	ID       string          `json:"-"`
	Peer     gateway.Wwwroot `json:"peer"`
	Wantsurl string          `json:"wantsurl"`
	// Planted orders the jumps of a browser: no two planted by one process
	// have the same.
	Planted time.Time `json:"planted"`
	Expires time.Time `json:"expires"`
	// Origin and Signature are those of the click that planted it.
	Origin    gateway.Origin    `json:"origin,omitempty"`
	Signature gateway.Signature `json:"signature,omitzero"`
	// Nonce and Verifier are the secrets of its login at an OpenID provider;
	// empty for a jump that waits for a login at Moodle.
	Nonce    string `json:"nonce,omitempty"`
	Verifier string `json:"verifier,omitempty"`
}

// Plant puts a new jump into the session, with an id and an expiry of its own;
// Save remembers it. With a session from Open this costs one round trip. Whoever
// plants one waits for a login, so that none of before counts as honoured any
// longer.
func (st *Sessions) Plant(session *sessions.Session, j Jump) (Jump, error) {
	if j.Peer.IsZero() || len(j.Wantsurl) > maxWantsurl {
		return Jump{}, fmt.Errorf("jump names no peer or its wantsurl is longer than %d bytes", maxWantsurl)
	}
	planted := st.site.r.plantedNow()
	j.ID, j.Planted, j.Expires = random(jumpIDLength), planted, planted.Add(JumpLife)
	var record strings.Builder
	record.WriteString(strconv.FormatInt(micros(j.Expires), 10) + " ")
	encoder := json.NewEncoder(&record)
	encoder.SetEscapeHTML(false) // or each & of a wantsurl takes six bytes
	if err := encoder.Encode(j); err != nil {
		return Jump{}, fmt.Errorf("jump: %w", err)
	}
	session.Values[fieldLogin] = ""
	session.Values[fieldJump+j.ID] = record.String()
	return j, nil
}

// plantedNow returns the time, a little later than ever before.
func (r *Redis) plantedNow() time.Time {
	for {
		last := r.planted.Load()
		now := max(micros(r.now()), last+1)
		if r.planted.CompareAndSwap(last, now) {
			return time.UnixMicro(now).UTC()
		}
	}
}

// Jumps returns the live jumps of a session from Get or New, newest first.
func (st *Sessions) Jumps(session *sessions.Session) []Jump {
	var jumps []Jump
	now := st.site.r.now()
	for name, value := range session.Values {
		field, _ := name.(string)
		text, _ := value.(string)
		id, ok := strings.CutPrefix(field, fieldJump)
		if !ok {
			continue
		}
		if j, err := parseJump(id, text); err == nil && now.Before(j.Expires) {
			jumps = append(jumps, j)
		}
	}
	slices.SortFunc(jumps, func(a, b Jump) int {
		return cmp.Or(b.Planted.Compare(a.Planted), cmp.Compare(a.ID, b.ID))
	})
	return jumps
}

// Ref names a planted jump in an address, after Save. It is good for finding
// the jump when the browser's cookie has come to name another session, as
// happens when two tabs begin at once; it gives nobody the session.
func Ref(session *sessions.Session, j Jump) string { return j.ID + "." + hash(session.ID) }

// splitRef returns the id of the jump and the hash of the session.
func splitRef(ref string) (jumpID, session string, ok bool) {
	jumpID, session, ok = strings.Cut(ref, ".")
	decoded, err := base64.RawURLEncoding.DecodeString(session)
	return jumpID, session, ok && err == nil && len(decoded) == sha256.Size && wellFormed(jumpID, jumpIDLength)
}

// Find returns the live jump that a reference from Ref names, or false. One
// round trip, or none for a reference that cannot be one.
func (st *Sessions) Find(ctx context.Context, ref string) (Jump, bool, error) {
	id, session, ok := splitRef(ref)
	if !ok {
		return Jump{}, false, nil
	}
	text, err := st.site.r.client.HGet(ctx, st.site.key(kindSession, session), fieldJump+id).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return Jump{}, false, nil
	case err != nil:
		return Jump{}, false, fail("find jump", err)
	}
	j, err := parseJump(id, text)
	return j, err == nil && st.site.r.now().Before(j.Expires), nil
}

func parseJump(id, text string) (Jump, error) {
	j := Jump{ID: id}
	_, record, _ := strings.Cut(text, " ")
	err := json.Unmarshal([]byte(record), &j)
	return j, err
}

// HonouredLogin returns the login that Claim last honoured in this browser, or
// "".
func HonouredLogin(session *sessions.Session) string {
	login, _ := session.Values[fieldLogin].(string)
	return login
}

// Drop takes a jump out of a session from Get or New that is not to be
// claimed, and remembers the login that it was dropped for. Save makes it so.
func Drop(session *sessions.Session, jump Jump, login string) {
	delete(session.Values, fieldJump+jump.ID)
	session.Values[fieldLogin] = login
}

// Claim takes the jump jumpID out of the session with the given ID, mints a
// token for g, and remembers login (an opaque hash that names the Moodle login
// which completed the jump; see HonouredLogin), all or nothing: of two
// completions at once one wins. It reports won false, and mints nothing, if
// there is no such jump or no longer. The charges are as with Mint; one that
// refuses leaves the jump where it is. One round trip.
func (s *Site) Claim(ctx context.Context, sessionID, jumpID, login string, g Grant, charges ...Charge) (token string, won bool, err error) {
	if !wellFormed(sessionID, secretLength) || !wellFormed(jumpID, jumpIDLength) {
		return "", false, nil
	}
	return s.claim(ctx, s.sessionKey(sessionID), jumpID, login, g, charges)
}

// ClaimRef is Claim for a jump of another session, by its reference.
func (s *Site) ClaimRef(ctx context.Context, ref, login string, g Grant, charges ...Charge) (token string, won bool, err error) {
	jumpID, session, ok := splitRef(ref)
	if !ok {
		return "", false, nil
	}
	return s.claim(ctx, s.key(kindSession, session), jumpID, login, g, charges)
}

func (s *Site) claim(ctx context.Context, sessionKey, jumpID, login string, g Grant, charges []Charge) (token string, won bool, err error) {
	if len(login) > maxLogin {
		return "", false, fmt.Errorf("login is longer than %d bytes", maxLogin)
	}
	token, record, err := s.newToken(g)
	if err != nil {
		return "", false, err
	}
	charges = limiting(charges)
	keys, args := s.charged([]string{sessionKey, s.tokenKey(token)},
		[]any{micros(s.r.now()), fieldJump + jumpID, login, record, tokenKept.Milliseconds()}, charges)
	result, err := verdict(scriptClaim.Run(ctx, s.r.client, keys, args...), charges)
	if err != nil || result != 1 {
		return "", false, failRate("claim jump", err)
	}
	return token, true, nil
}
