package mnet

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"jumpgate/gateway"
)

// Replays remembers which messages were seen.
type Replays interface {
	// Replayed records nonce and reports whether it was recorded before. An
	// error refuses the call without calling it a replay.
	Replayed(ctx context.Context, nonce [32]byte) (bool, error)
}

// ErrReplayed is what a Method with ChecksReplay returns for a message that it
// has seen before.
var ErrReplayed = errors.New("the message was received before")

// Server answers the calls of peers at the RPC endpoint of a site (sections 3
// to 5). It executes a call only if it is sealed for one of Keys, signed with
// the caller's pinned key, says the same wwwroot inside and outside, is no older or
// newer than Window and was not seen before. Everybody may call system/keyswap
// in plain XML-RPC. A call that was signed gets a signed answer, one that was
// sealed a sealed one.
//
// Set the fields before the first request and leave them alone afterwards.
type Server struct {
	Site gateway.Wwwroot

	// Keys returns the keys of the site: the current one, then archived ones,
	// at least one. A call sealed for an archived key gets fault 7025 with the
	// current certificate, signed with the archived key (section 3.5), which
	// is the one that Moodle's and Mahara's clients verify it with. It gets it
	// before its own signature is judged: two sites that change their keys at
	// the same time could never tell one another otherwise.
	Keys func() []*Key

	// Peer returns the peer that a wwwroot means, and its pinned certificate:
	// a nil peer is unknown, a nil certificate not there yet. It should not
	// take longer than a look into memory or a file for peers that call often.
	Peer func(ctx context.Context, wwwroot string) (*gateway.Peer, *gateway.Certificate, error)

	// Refresh returns the certificate that a peer has changed to, when a
	// signature does not fit the one that Peer returned; nil if there is no
	// other that can be trusted. It decides itself how often it asks the peer.
	// May be nil.
	Refresh func(context.Context, *gateway.Peer, *gateway.Certificate) (*gateway.Certificate, error)

	// Keyswapped is told who asks for our certificate, if the caller says so
	// properly and not too often. Nothing of it is verified. The answer waits
	// for it and stays the same. It may be nil.
	Keyswapped func(context.Context, KeyswapRequest)

	Methods []Method                       // besides the built-in system/*
	Replays Replays                        // nil lets replays of Methods without ChecksReplay pass
	Window  time.Duration                  // how far a timestamp may be off, either way; 0 for DefaultWindow
	Now     func() time.Time               // nil for time.Now
	Budget  *Budget                        // of the Server before this one; nil for a new one
	Addr    func(*http.Request) netip.Addr // whose budget a request uses up; nil for the address of the connection
	Observe func(context.Context, Event)   // called once for each request; may be nil

	// Pass answers a call of a method that nobody here has, given the whole
	// message as it came. It returns the answer in its envelope, or nil if
	// the caller is to get fault 7012; an error says why, for the log. It may
	// be nil.
	Pass func(ctx context.Context, c *Call, message []byte) ([]byte, error)

	once    sync.Once
	methods map[string]*Method
	budget  *Budget
}

// DefaultWindow is how far the clocks of two sites may be apart.
const DefaultWindow = 5 * time.Minute

// callTime bounds the work on one call; readTime the arrival of its body.
const (
	callTime = 30 * time.Second
	readTime = 30 * time.Second
)

// Texts of the faults that stock Moodle sends with the same codes.
const (
	noMethodText     = "Unable to locate function, or function prohibited for RPC."
	plaintextText    = "The transport method you are trying to use is not permitted."
	badSignatureText = "The signature verification failed. It appears that this payload was not signed by you."
	notSignedText    = "The signature verification failed. An error has occurred."
)

func (s *Server) init() {
	s.methods = map[string]*Method{}
	for _, list := range [][]Method{s.Methods, s.systemMethods()} {
		for i := range list {
			s.methods[list[i].Name] = &list[i]
		}
	}
	if s.budget = s.Budget; s.budget == nil {
		s.budget = NewBudget()
	}
	if s.Window == 0 {
		s.Window = DefaultWindow
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Addr == nil {
		s.Addr = connectionAddr
	}
}

func connectionAddr(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr()
}

// ServeHTTP answers one call. Whatever is XML gets an XML answer with status
// 200, as peers need it; requests that no peer makes get a plain HTTP error.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.once.Do(s.init)
	start := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), callTime)
	defer cancel()
	x := &exchange{Server: s, keys: s.Keys(), event: Event{Addr: s.Addr(r), Status: http.StatusOK, Reason: ReasonOK}}
	doc, ok := x.read(w, r)
	var answer []byte
	if ok {
		x.doc = doc
		answer = x.answer(ctx, doc)
	}
	if answer != nil {
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		w.Write(answer) // the peer may be gone; there is nobody to tell
	} else {
		x.writeError(w)
	}
	if s.Observe != nil {
		x.event.Duration = time.Since(start)
		s.Observe(ctx, x.event)
	}
}

// mayPass reports whether a method may be somebody else's. One that is spelled
// like ours is not: a Moodle on MySQL looks methods up without regard to case,
// and would answer what we refuse.
func (s *Server) mayPass(method string) bool {
	for name := range s.methods {
		if strings.EqualFold(name, method) {
			return false
		}
	}
	return s.Pass != nil
}
