package moodle

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"jumpgate/gateway"
)

// Cache keeps small values for a while, shared by all gateways of a site.
type Cache interface {
	// Get returns nil for a key that is absent.
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error
	Forget(ctx context.Context, key string) error
}

// remembered is a cached identity. It carries its own end because not every
// store's clock can be relied on.
type remembered struct {
	Until    int64            `json:"until"` // Unix seconds
	Identity gateway.Identity `json:"identity"`
}

// Forget ends what is remembered of a session, at all gateways. It is to be
// called with the session that an answer of Moodle's replaces (see SetsSession)
// and for PageLoginAs, which changes the account without changing the session.
func (w *Web) Forget(ctx context.Context, session string) error {
	if w.o.Cache == nil || !validSessionID(session) {
		return nil
	}
	if err := w.o.Cache.Forget(ctx, w.cacheKey(session)); err != nil {
		return fmt.Errorf("forget a moodle session: %w", err)
	}
	return nil
}

// cached looks a session up. A value that cannot be read is as good as none.
func (w *Web) cached(ctx context.Context, session string) (id gateway.Identity, ok bool, err error) {
	if w.o.Cache == nil {
		return gateway.Identity{}, false, nil
	}
	value, err := w.o.Cache.Get(ctx, w.cacheKey(session))
	if err != nil {
		return gateway.Identity{}, false, fmt.Errorf("look up a moodle session: %w", err)
	}
	var r remembered
	if value == nil || json.Unmarshal(value, &r) != nil || r.Until <= w.o.Now().Unix() || !r.Identity.LoggedIn() {
		return gateway.Identity{}, false, nil
	}
	return r.Identity, true, nil
}

// remember keeps the identity of a session that is logged in.
func (w *Web) remember(ctx context.Context, session string, id gateway.Identity) error {
	if w.o.Cache == nil || !id.LoggedIn() {
		return nil
	}
	value, err := json.Marshal(remembered{w.o.Now().Add(w.o.CacheTTL).Unix(), id})
	if err == nil {
		err = w.o.Cache.Put(ctx, w.cacheKey(session), value, w.o.CacheTTL)
	}
	if err != nil {
		return fmt.Errorf("remember a moodle session: %w", err)
	}
	return nil
}

// cacheKey hides the session id: who reads our Redis gets no session.
func (w *Web) cacheKey(session string) string {
	secret := w.o.CacheKey()
	mac := hmac.New(sha256.New, secret[:])
	mac.Write([]byte(session))
	return hex.EncodeToString(mac.Sum(nil))
}
