package web

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"net/http"

	"jumpgate/gateway/proxy"
)

const requestIDHeader = "X-Request-Id"

// RequestID returns the id by which a request is known in our log, on our
// pages, and to the Moodle behind.
func RequestID(r *http.Request) string {
	if id := r.Header[requestIDHeader]; len(id) == 1 {
		return id[0]
	}
	return ""
}

// identify gives a request its id: the one that a trusted proxy in front gave
// it, or a new one. It travels in the request's own header, so that passing
// it on costs nothing.
func identify(r *http.Request, trust proxy.Trust) {
	if len(trust) > 0 && wellFormedID(RequestID(r)) && trust.Direct(r) {
		return
	}
	var id [8]byte
	for i, n := 0, rand.Uint64(); i < len(id); i++ {
		id[i] = byte(n >> (8 * i))
	}
	r.Header[requestIDHeader] = []string{hex.EncodeToString(id[:])}
}

func wellFormedID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// peerCall is what events about a peer's call need to know of its request.
type peerCall struct {
	request  string // its id
	recorded bool   // as the redemption of a token: its fault is no event of its own
}

type peerCallKey struct{}

// called is a handler of peers' calls.
func called(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerCallKey{}, &peerCall{request: RequestID(r)})))
	})
}

// callOf returns what is known of the request that a context is of.
func callOf(ctx context.Context) *peerCall {
	if c, ok := ctx.Value(peerCallKey{}).(*peerCall); ok {
		return c
	}
	return &peerCall{}
}
