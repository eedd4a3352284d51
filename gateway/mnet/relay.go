package mnet

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"jumpgate/gateway"
)

// Relay is the RPC endpoint of a site whose Moodle speaks MNet itself. It
// cannot open what peers send, so it judges the outside: a POST of bounded
// size, an envelope or plain keyswap that this package reads, in the name of a
// peer. That is passed on as it came, without anything else of the request;
// the rest is answered as a Server answers it.
//
// Set the fields before the first request and leave them alone afterwards.
type Relay struct {
	Peers *gateway.Allowlist

	// Forward lets the Moodle behind answer r, and calls look with what it
	// answers before that is written to w.
	Forward func(w http.ResponseWriter, r *http.Request, look func(*http.Response))

	Addr    func(*http.Request) netip.Addr // who used up an allowance; nil for the address of the connection
	Observe func(context.Context, Event)   // called once for each request; may be nil

	once   sync.Once
	server *Server // reads requests and writes faults
	mu     sync.Mutex
	addrs  *table[netip.Addr]
}

// relayAllowance is for one address, whatever peers are there: nothing here
// tells a peer's messages from those of somebody who says so, and a class that
// lands at once needs three calls for each learner.
var relayAllowance = allowance{200, 400}

// MaxPassed bounds what the Moodle behind answers, in bytes: the list of all
// courses of a large site with their descriptions, in two layers of base64.
const MaxPassed = 32 << 20

func (l *Relay) init() {
	l.server = &Server{Addr: l.Addr}
	l.server.once.Do(l.server.init)
	l.addrs = newTable[netip.Addr](relayAllowance, idleTime)
}

// ServeHTTP passes one call on, or refuses it.
func (l *Relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.once.Do(l.init)
	start := time.Now()
	x := &exchange{Server: l.server, event: Event{Addr: l.server.Addr(r), Status: http.StatusOK, Reason: ReasonNoAnswer}}
	if l.Observe != nil {
		defer func() { // even if Forward has to break off
			x.event.Duration = time.Since(start)
			l.Observe(r.Context(), x.event)
		}()
	}
	doc, ok := x.read(w, r)
	if !ok {
		x.writeError(w)
		return
	}
	fault, pass := l.judge(r.Context(), x, doc)
	switch {
	case pass:
		l.Forward(w, relayed(r, doc), func(res *http.Response) { x.event.Reason = ReasonRelayed; boundAnswer(res) })
	case fault != nil:
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(fault)))
		w.Write(fault) // the peer may be gone; there is nobody to tell
	default:
		x.writeError(w)
	}
}

// judge reports whether doc may pass. If not, it returns the fault that
// answers it, or nil for an HTTP error.
func (l *Relay) judge(ctx context.Context, x *exchange, doc []byte) (fault []byte, pass bool) {
	var err error
	switch rootOf(doc) {
	case "encryptedmessage":
		var sealed *Sealed
		if sealed, err = ParseSealed(doc); err == nil {
			x.event.Claimed = sealed.Wwwroot
		}
	case "signedmessage": // which Moodle takes from trusted addresses (section 1)
		var signed *Signed
		if signed, err = ParseSigned(doc); err == nil {
			x.event.Claimed = signed.Wwwroot
		}
	default:
		method, params, decoding := DecodeCall(doc)
		if err = decoding; err != nil {
			break
		}
		if x.event.Method = method[:min(len(method), 255)]; method != keyswap {
			return x.fault(ctx, FaultPlaintext, plaintextText, ReasonNotSealed, nil), false
		}
		if len(params) > 0 {
			x.event.Claimed = Text(params[0])
		}
	}
	if err != nil {
		x.httpError(http.StatusBadRequest, ReasonMalformed, err)
		return nil, false
	}
	if x.event.Peer = l.Peers.Caller(x.event.Claimed, time.Now()); x.event.Peer == nil {
		x.event.Claimed = x.event.Claimed[:min(len(x.event.Claimed), maxWwwroot)]
		return x.unknownPeer(ctx), false
	}
	if !l.allow(x.event.Addr) {
		x.httpError(http.StatusServiceUnavailable, ReasonBudget, nil)
		return nil, false
	}
	return nil, true
}

func (l *Relay) allow(addr netip.Addr) bool {
	l.mu.Lock()
	limiter := l.addrs.get(network(addr), time.Now())
	l.mu.Unlock()
	return limiter.Allow()
}

// relayed is the request that reaches Moodle: doc, and of the header what
// tells who sends it.
func relayed(r *http.Request, doc []byte) *http.Request {
	out := r.WithContext(r.Context())
	out.RequestURI = r.URL.Path // in the one spelling that was routed here, without a query
	out.Header = http.Header{"Content-Type": {"text/xml"}}
	for _, name := range []string{"User-Agent", "X-Forwarded-For", "X-Request-Id"} {
		if values := r.Header[name]; values != nil {
			out.Header[name] = values
		}
	}
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(doc)), int64(len(doc))
	out.TransferEncoding, out.Trailer = nil, nil
	return out
}

// boundAnswer keeps an answer from going on for ever, and from setting cookies,
// for which a peer has no use.
func boundAnswer(res *http.Response) {
	delete(res.Header, "Set-Cookie")
	res.Body = http.MaxBytesReader(nil, res.Body, MaxPassed)
}
