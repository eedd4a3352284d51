package store

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

// Limits cap the browser sessions that are alive at once. A request with the
// cookie of a live session is never refused by them; one without would begin
// another session and gets ErrTooMany. Jumps bounds how often an address may
// plant a jump, in whatever session: more get a *RateError.
type Limits struct {
	PerAddress int // per client address (IPv6: per /64 network); 0 means 1,000
	PerSite    int // 0 means 50,000, or 10,000 in the embedded server
	Jumps      gateway.Rate
}

// Bounds of what a caller may put into a session.
const (
	maxFields    = 64
	maxFieldName = 128
	maxField     = 8 << 10
	// sessionLife is the life of a session whose cookie says none.
	sessionLife = time.Hour
)

// Sessions is a gorilla/sessions Store for the browser sessions of a site. A
// session is a hash in Redis with one field per entry of Values; keys and
// values must be strings. Save writes only what changed since the session was
// read, so two tabs never overwrite one another. The cookie holds 40 random
// characters, Redis only their hash. A cookie that names no live session is
// ignored: its value is never taken over.
type Sessions struct {
	site    *Site
	options sessions.Options
	limits  Limits
	address func(*http.Request) netip.Addr
}

var _ sessions.Store = (*Sessions)(nil)

// Sessions returns the browser sessions of the site. The options are those of
// the cookie; MaxAge is also the life of a session in Redis, counted from the
// last Save. The function address names the client; nil takes RemoteAddr.
func (s *Site) Sessions(options sessions.Options, limits Limits, address func(*http.Request) netip.Addr) *Sessions {
	perSite := 50_000
	if s.r.embedded != nil {
		perSite = 10_000
	}
	limits.PerAddress = cmp.Or(limits.PerAddress, 1000)
	limits.PerSite = cmp.Or(limits.PerSite, perSite)
	if address == nil {
		address = remoteAddr
	}
	return &Sessions{site: s, options: options, limits: limits, address: address}
}

func remoteAddr(r *http.Request) netip.Addr {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	return peer.Addr()
}

// asRead is the key under which Values holds the fields as Redis had them.
type asRead struct{}

// Get returns the session of the cookie name, read once per request. If there
// is none it returns a new one; if Redis does not answer, a new one and an
// error that wraps ErrUnavailable.
func (st *Sessions) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(st, name)
}

// New is Get without the registry: it reads again every time. One round trip,
// or none without a cookie.
func (st *Sessions) New(r *http.Request, name string) (*sessions.Session, error) {
	session := st.Open(r, name)
	if session.ID == "" {
		return session, nil
	}
	fields, err := st.site.r.client.HGetAll(r.Context(), st.site.sessionKey(session.ID)).Result()
	if err != nil {
		return session, fail("read session", err)
	}
	if len(fields) == 0 {
		session.ID = ""
		return session, nil
	}
	for field, value := range fields {
		session.Values[field] = value
	}
	session.Values[asRead{}] = fields
	session.IsNew = false
	return session, nil
}

// Open returns a session to write to without reading it first: Save adds the
// fields set here to those that the browser's session has. No round trip.
func (st *Sessions) Open(r *http.Request, name string) *sessions.Session {
	session := sessions.NewSession(st, name)
	options := st.options
	session.Options = &options
	session.IsNew = true
	if cookie, err := r.Cookie(name); err == nil && wellFormed(cookie.Value, secretLength) {
		session.ID = cookie.Value
	}
	return session
}

// Save writes what changed and sets the cookie. A new session without values
// is not worth either. A session with a negative MaxAge is deleted, and its
// cookie with it. ErrTooMany means that the session would be a new one and
// there are too many, a *RateError that it has a new jump too soon. One round
// trip.
func (st *Sessions) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	if session.Options.MaxAge < 0 {
		return st.remove(r, w, session)
	}
	changes, err := diff(session)
	if err != nil {
		return fmt.Errorf("save session: %w", err)
	}
	if session.IsNew && len(changes.set) == 0 {
		return nil
	}
	if session.ID, err = st.write(r, session, changes); err != nil {
		return err
	}
	session.IsNew = false
	session.Values[asRead{}] = changes.now
	http.SetCookie(w, sessions.NewCookie(session.Name(), session.ID, session.Options))
	return nil
}

// write runs the script and returns the ID of the session it used.
func (st *Sessions) write(r *http.Request, session *sessions.Session, changes changes) (string, error) {
	life := time.Duration(session.Options.MaxAge) * time.Second
	if life == 0 {
		life = sessionLife
	}
	now := st.site.r.now()
	fresh := random(secretLength)
	keys := []string{
		st.site.sessionKey(cmp.Or(session.ID, fresh)), st.site.sessionKey(fresh),
		st.site.key(kindNew, ""), st.addressKey(r),
	}
	args := []any{
		micros(now), micros(now.Add(life)), life.Milliseconds(), MaxJumps,
		st.limits.PerSite, st.limits.PerAddress, len(changes.set) / 2,
	}
	var charges []Charge
	if changes.planted {
		charges = limiting([]Charge{PerAddress(st.address(r), st.limits.Jumps)})
	}
	keys, args = st.site.charged(keys, args, charges)
	args = append(append(args, changes.set...), changes.removed...)
	used, err := verdict(scriptSave.Run(r.Context(), st.site.r.client, keys, args...), charges)
	switch {
	case err != nil:
		return session.ID, failRate("save session", err)
	case used == 3:
		return session.ID, ErrTooMany
	case used == 1 && session.ID != "":
		return session.ID, nil
	}
	return fresh, nil
}

func (st *Sessions) remove(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	if wellFormed(session.ID, secretLength) {
		ctx, key := r.Context(), st.site.sessionKey(session.ID)
		_, err := st.site.r.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Del(ctx, key)
			pipe.ZRem(ctx, st.site.key(kindNew, ""), hash(session.ID))
			pipe.ZRem(ctx, st.addressKey(r), hash(session.ID))
			return nil
		})
		if err != nil {
			return fail("delete session", err)
		}
	}
	http.SetCookie(w, sessions.NewCookie(session.Name(), "", session.Options))
	return nil
}

// End ends a session that waits for nothing more, and its cookie, so that it
// does not count any longer. A jump that another tab has planted meanwhile
// keeps both. One round trip.
func (st *Sessions) End(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	if !wellFormed(session.ID, secretLength) {
		return nil
	}
	ended, err := scriptEnd.Run(r.Context(), st.site.r.client, []string{
		st.site.sessionKey(session.ID), st.site.key(kindNew, ""), st.addressKey(r),
	}).Bool()
	if err != nil {
		return fail("end session", err)
	}
	if ended {
		gone := *session.Options
		gone.MaxAge = -1
		http.SetCookie(w, sessions.NewCookie(session.Name(), "", &gone))
	}
	return nil
}

func (s *Site) sessionKey(id string) string { return s.key(kindSession, hash(id)) }

// addressKey names the client. A holder of an IPv6 network can use any address
// of it, so the network counts.
func (st *Sessions) addressKey(r *http.Request) string {
	return st.site.key(kindNewFrom, network(st.address(r)).String())
}

// network returns what one customer of a provider holds: an IPv4 address or an
// IPv6 network of 64 bits.
func network(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		prefix, _ := addr.Prefix(64)
		addr = prefix.Addr()
	}
	return addr
}

// changes are what Save sends to Redis.
type changes struct {
	set     []any // name, value, name, value, …
	removed []any // names
	now     map[string]string
	planted bool // a jump
}

// diff compares the session's values with the fields as they were read.
func diff(session *sessions.Session) (changes, error) {
	read, _ := session.Values[asRead{}].(map[string]string)
	c := changes{now: make(map[string]string, len(session.Values))}
	for key, value := range session.Values {
		if key == (asRead{}) {
			continue
		}
		field, isString := key.(string)
		text, valueIsString := value.(string)
		if !isString || !valueIsString {
			return c, errors.New("a key or value is not a string")
		}
		if field == "" || len(field) > maxFieldName || len(text) > maxField {
			return c, errors.New("a key or value is too long or empty")
		}
		c.now[field] = text
		if old, had := read[field]; !had || old != text {
			c.set = append(c.set, field, text)
			if strings.HasPrefix(field, fieldJump) {
				c.planted = true
			}
		}
	}
	if len(c.now) > maxFields {
		return c, fmt.Errorf("more than %d values", maxFields)
	}
	for field := range read {
		if _, has := c.now[field]; !has {
			c.removed = append(c.removed, field)
		}
	}
	return c, nil
}
