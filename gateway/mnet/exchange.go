package mnet

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"jumpgate/gateway"
)

// exchange is one request and what is known about it so far.
type exchange struct {
	*Server
	event  Event
	doc    []byte               // as it came
	keys   []*Key               // of ours, as they were when the request came
	cert   *gateway.Certificate // the peer's
	key    *Key                 // of ours that signs the answer
	sealed bool
	signed bool
}

// read returns the body of a proper POST.
func (x *exchange) read(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	if r.Method != http.MethodPost {
		w.Header().Set("Connection", "close") // whatever it has sent, nobody reads it
		return nil, x.httpError(http.StatusMethodNotAllowed, ReasonNotPost, nil)
	}
	if r.ContentLength > MaxBody {
		w.Header().Set("Connection", "close")
		return nil, x.httpError(http.StatusRequestEntityTooLarge, ReasonTooLarge, nil)
	}
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(readTime)) // an error means that w has none
	body := http.MaxBytesReader(w, r.Body, MaxBody)
	var buf bytes.Buffer
	buf.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead)
	_, err := io.Copy(&buf, body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, x.httpError(http.StatusRequestEntityTooLarge, ReasonTooLarge, nil)
	}
	if err != nil {
		// The deadline stays, or the server would wait for the rest before
		// it sends the answer.
		w.Header().Set("Connection", "close")
		return nil, x.httpError(http.StatusBadRequest, ReasonUnreadable, err)
	}
	control.SetReadDeadline(time.Time{})
	return buf.Bytes(), true
}

// httpError notes that the answer is no XML. It returns false for the
// convenience of its callers.
func (x *exchange) httpError(status int, reason string, err error) bool {
	x.event.Status, x.event.Reason, x.event.Err = status, reason, err
	return false
}

func (x *exchange) writeError(w http.ResponseWriter) {
	switch x.event.Status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfterFlood)
	}
	http.Error(w, http.StatusText(x.event.Status), x.event.Status)
}

// answer returns the XML that answers doc, or nil for an HTTP error.
func (x *exchange) answer(ctx context.Context, doc []byte) []byte {
	switch rootOf(doc) {
	case "encryptedmessage":
		sealed, err := ParseSealed(doc)
		if err != nil {
			x.httpError(http.StatusBadRequest, ReasonMalformed, err)
			return nil
		}
		return x.open(ctx, sealed)
	case "signedmessage":
		signed, err := ParseSigned(doc)
		if err != nil {
			x.httpError(http.StatusBadRequest, ReasonMalformed, err)
			return nil
		}
		return x.refuseSigned(ctx, signed)
	default:
		return x.plain(ctx, doc)
	}
}

// rootOf returns the name of the root element in lower case, or "".
func rootOf(doc []byte) string {
	s, err := newScanner(doc)
	if err != nil {
		return ""
	}
	name, err := s.element()
	if err != nil {
		return ""
	}
	return string(bytes.ToLower(name))
}

// plain answers a call without envelope, which may only be a keyswap.
func (x *exchange) plain(ctx context.Context, doc []byte) []byte {
	method, params, err := DecodeCall(doc)
	if err != nil {
		x.httpError(http.StatusBadRequest, ReasonMalformed, err)
		return nil
	}
	if method != keyswap {
		return x.fault(ctx, FaultPlaintext, plaintextText, ReasonNotSealed, nil)
	}
	return x.dispatch(ctx, &Call{Method: method, Params: params, Addr: x.event.Addr})
}

// refuseSigned answers a call that was signed but not sealed. It is refused
// whoever signed it, and so nobody verifies it.
func (x *exchange) refuseSigned(ctx context.Context, signed *Signed) []byte {
	x.event.Claimed = signed.Wwwroot
	peer, _, err := x.Peer(ctx, signed.Wwwroot)
	if err != nil {
		return x.fault(ctx, FaultOther, "This site cannot answer at the moment. Try again later.", ReasonLookupFailed, err)
	}
	if x.event.Peer = peer; peer == nil {
		return x.unknownPeer(ctx)
	}
	if !x.allowed(x.budget.allow(x.caller(), x.Now())) {
		return nil
	}
	x.signed, x.key = true, x.keys[0]
	return x.fault(ctx, FaultPlaintext, plaintextText, ReasonNotSealed, nil)
}

func (x *exchange) unknownPeer(ctx context.Context) []byte {
	return x.fault(ctx, FaultUnknownPeer, "This site does not know the wwwroot "+x.event.Claimed+".", ReasonUnknownPeer, nil)
}

// allowed notes that there is no budget left for an exchange, unless ok.
func (x *exchange) allowed(ok bool) bool {
	return ok || x.httpError(http.StatusServiceUnavailable, ReasonBudget, nil)
}

func (x *exchange) caller() caller {
	return caller{addr: x.event.Addr, peer: x.event.Peer.Wwwroot.String()}
}

// open answers a sealed message. Until it is open, all answers are plain
// (section 3.4).
func (x *exchange) open(ctx context.Context, sealed *Sealed) []byte {
	x.event.Claimed = sealed.Wwwroot
	peer, cert, err := x.Peer(ctx, sealed.Wwwroot)
	x.event.Peer, x.cert = peer, cert
	switch {
	case err != nil:
		return x.fault(ctx, FaultOther, "This site cannot answer at the moment. Try again later.", ReasonLookupFailed, err)
	case peer == nil:
		return x.unknownPeer(ctx)
	case cert == nil:
		return x.fault(ctx, FaultNoCertificate, "This site has no certificate of "+sealed.Wwwroot+" yet.", ReasonNoCertificate, nil)
	}
	opened, err, ok := x.unseal(ctx, sealed)
	if !ok {
		return nil
	}
	if err != nil {
		return x.fault(ctx, FaultNotOpened, "No key of this site opens the message. Fetch its certificate again.", ReasonNotOpened, nil)
	}
	x.sealed, x.key = true, x.keys[opened.Key]
	if opened.Key > 0 {
		x.signed = true
		return x.fault(ctx, FaultNewKey, x.keys[0].Certificate().PEM(), ReasonOldKey, nil)
	}
	if rootOf(opened.Plaintext) != "signedmessage" {
		return x.fault(ctx, FaultNotSigned, notSignedText, ReasonNotSigned, nil)
	}
	x.signed = true
	return x.verify(ctx, opened)
}

// unseal opens a message with the current key or, if the budget allows that
// too, with the archived ones. ok is false if there is no room for the work.
func (x *exchange) unseal(ctx context.Context, sealed *Sealed) (opened Opened, err error, ok bool) {
	from := 0
	for _, keys := range [][]*Key{x.keys[:1], x.keys[1:]} {
		if len(keys) == 0 {
			break
		}
		within := x.budget.allow
		if from > 0 {
			within = func(c caller, now time.Time) bool { return x.budget.allowLate(c, len(keys), now) }
		}
		if !x.allowed(within(x.caller(), x.Now())) {
			return opened, nil, false
		}
		if !x.budget.work(ctx, func() { opened, err = sealed.Open(keys...) }) {
			return opened, nil, x.httpError(http.StatusServiceUnavailable, ReasonBusy, nil)
		}
		if err == nil {
			opened.Key += from
			return opened, nil, true
		}
		from += len(keys)
	}
	return opened, err, true
}

// verified reports whether the peer signed the message: with the key that is
// known or, if it has changed that, with the one it has now.
func (x *exchange) verified(ctx context.Context, signed *Signed) bool {
	if signed.Verify(x.cert) == nil {
		return true
	}
	if x.Refresh == nil {
		return false
	}
	cert, err := x.Refresh(ctx, x.event.Peer, x.cert)
	if cert == nil || signed.Verify(cert) != nil {
		x.event.Err = err
		return false
	}
	x.cert = cert
	return true
}

// verify answers an opened message: from here on answers are signed and
// sealed.
func (x *exchange) verify(ctx context.Context, opened Opened) []byte {
	signed, err := ParseSigned(opened.Plaintext)
	switch {
	case err != nil:
		return x.fault(ctx, FaultBadSignature, badSignatureText, ReasonMalformed, err)
	case signed.Wwwroot != x.event.Claimed:
		return x.fault(ctx, FaultBadSignature, badSignatureText, ReasonWwwrootMismatch, nil)
	}
	if !x.verified(ctx, signed) {
		return x.fault(ctx, FaultBadSignature, badSignatureText, ReasonBadSignature, x.event.Err)
	}
	if off := x.Now().Sub(signed.Timestamp); off.Abs() > x.Window {
		return x.fault(ctx, FaultUnknown, "The timestamp of the message is more than "+x.Window.String()+
			" off. Set the clocks of both sites.", ReasonTimestamp, nil)
	}
	x.event.Verified = true
	method, params, err := DecodeCall(signed.Payload)
	if err != nil {
		return x.fault(ctx, FaultUnknown, "The call is not XML-RPC.", ReasonMalformed, err)
	}
	return x.dispatch(ctx, &Call{
		Peer: x.event.Peer, Method: method, Params: params, Nonce: opened.Nonce, Addr: x.event.Addr,
	})
}

// dispatch answers a call that may be made.
func (x *exchange) dispatch(ctx context.Context, c *Call) []byte {
	x.event.Method = c.Method[:min(len(c.Method), 255)]
	m, fault, reason := x.find(c)
	pass := fault != nil && fault.Code == FaultNoMethod && x.sealed && x.mayPass(c.Method)
	if fault != nil && !pass {
		return x.fault(ctx, fault.Code, fault.String, reason, nil)
	}
	if x.sealed && x.Replays != nil && (pass || !m.ChecksReplay) {
		replayed, err := x.Replays.Replayed(ctx, c.Nonce)
		if err != nil {
			return x.fault(ctx, FaultOther, failedText, ReasonReplaysFailed, err)
		}
		if replayed {
			return x.fault(ctx, FaultUnknown, replayedText, ReasonReplay, nil)
		}
	}
	if pass {
		answer, err := x.pass(ctx, c)
		if answer == nil {
			return x.fault(ctx, fault.Code, fault.String, ReasonUnknownMethod, err)
		}
		return answer
	}
	v, err := m.Call(ctx, c)
	if errors.Is(err, ErrReplayed) {
		return x.fault(ctx, FaultUnknown, replayedText, ReasonReplay, nil)
	}
	if x.sealed {
		x.budget.prove(x.caller(), x.Now()) // not earlier: a recorded message proves nothing
	}
	if on, ok := errors.AsType[*PassOn](err); ok {
		if answer, _ := x.pass(ctx, c); answer != nil {
			return answer
		}
		v, err = on.Else, nil
	}
	if err == nil {
		if reason, detail := c.Noted(); reason != "" {
			x.event.Reason, x.event.Err = reason, detail
		}
		return x.pack(ctx, EncodeResponse(v))
	}
	if fault, ok := errors.AsType[*Fault](err); ok {
		return x.fault(ctx, fault.Code, fault.String, cmp.Or(fault.Reason, ReasonFault), err)
	}
	return x.fault(ctx, FaultOther, failedText, ReasonFailed, err)
}

// looksSealed reports whether a document begins as a sealed one does; that of a
// large site is longer than what we would read ourselves.
func looksSealed(doc []byte) bool {
	return bytes.Contains(bytes.ToLower(doc[:min(len(doc), 512)]), []byte("<encryptedmessage"))
}

// pass leaves a call to the Moodle behind and returns its answer, or nil if it
// does not take it.
func (x *exchange) pass(ctx context.Context, c *Call) ([]byte, error) {
	x.budget.prove(x.caller(), x.Now())
	if x.Pass == nil {
		return nil, nil
	}
	answer, err := x.Pass(ctx, c, x.doc)
	switch {
	case err != nil || answer == nil:
		return nil, err
	case !looksSealed(answer):
		return nil, errors.New("the answer is not sealed")
	}
	x.event.Reason = ReasonPassed
	return answer, nil
}

const (
	failedText   = "This site could not complete the call. Try again later."
	replayedText = "This message was received before."
)

// fault returns the XML of a fault in the envelope that the call had.
func (x *exchange) fault(ctx context.Context, code int, text, reason string, err error) []byte {
	f := &Fault{Code: code, String: text}
	x.event.Fault, x.event.Reason, x.event.Err = f, reason, err
	return x.pack(ctx, EncodeFault(f))
}

// pack signs doc if the call was signed and seals it if that was sealed.
func (x *exchange) pack(ctx context.Context, doc []byte) []byte {
	var err error
	if x.signed && !x.budget.work(ctx, func() { doc, err = Sign(doc, x.key, x.Site, x.Now()) }) {
		x.httpError(http.StatusServiceUnavailable, ReasonBusy, nil)
		return nil
	}
	if err == nil && x.sealed {
		doc, err = Seal(doc, x.cert, x.Site)
	}
	if err != nil {
		x.httpError(http.StatusInternalServerError, ReasonSigningFailed, err)
		return nil
	}
	return doc
}
