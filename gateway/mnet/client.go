package mnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"jumpgate/gateway"
)

// Client calls the methods of peers, and fetches their certificates. It may be
// used by many goroutines at once and must not be copied.
type Client struct {
	HTTP *http.Client     // nil for http.DefaultClient; redirects are never followed
	Keys func() []*Key    // of our site: the current one signs, the archived ones open as well
	Site gateway.Wwwroot  // who we are
	Now  func() time.Time // nil for time.Now

	answers seen
}

const (
	exchangeTime = 60 * time.Second // for a call and its answer (section 3)
	maxAhead     = 15 * time.Second // how far an answer may be ahead of our clock (section 3.4)
	maxBehind    = DefaultWindow    // how far it may be behind the time we asked
)

// Call calls a method of peer, whose pinned certificate is cert, and returns
// its value. A fault is a *Fault error: one that the peer signed and sealed
// or, if it is marked Unauthenticated, one that anybody may have written. All
// other errors say that there was no valid answer. An answer is valid if it is
// sealed for us, signed with the pinned key, says the peer's wwwroot or the same
// alias inside and outside, is neither more than 15 seconds ahead of our clock
// nor 5 minutes old, and was not given before. Nothing in it says which call it
// answers: that an answer that never reached us answers a later call remains
// possible where TLS does not protect the way.
//
// An authenticated fault 7025 carries the peer's new certificate (section
// 3.5) and the proof that the holder of the pinned key sent it; see Caller.
func (c *Client) Call(ctx context.Context, peer *gateway.Peer, cert *gateway.Certificate, method string, params ...Value) (Value, error) {
	v, err := c.call(ctx, peer, cert, EncodeCall(method, params...))
	if err != nil {
		return nil, fmt.Errorf("call %s of %s: %w", method, peer.Wwwroot, err)
	}
	return v, nil
}

func (c *Client) call(ctx context.Context, peer *gateway.Peer, cert *gateway.Certificate, doc []byte) (Value, error) {
	asked := c.now()
	signed, err := Sign(doc, c.Keys()[0], c.Site, asked)
	if err != nil {
		return nil, err
	}
	sealed, err := Seal(signed, cert, c.Site)
	if err != nil {
		return nil, err
	}
	body, err := c.post(ctx, peer.Wwwroot, peer.Application, sealed)
	if err != nil {
		return nil, err
	}
	answer, err := c.open(body, peer, cert, asked)
	if err != nil {
		return nil, err
	}
	v, err := DecodeResponse(answer.Payload)
	if fault, ok := errors.AsType[*Fault](err); ok {
		fault.proof = answer
	}
	return v, err
}

// open returns an answer whose signature is good.
func (c *Client) open(body []byte, peer *gateway.Peer, cert *gateway.Certificate, asked time.Time) (*Signed, error) {
	if root := rootOf(body); root != "encryptedmessage" {
		return nil, unauthenticated(body, "the answer is not sealed")
	}
	sealed, err := ParseSealed(body)
	if err != nil {
		return nil, err
	}
	opened, err := sealed.Open(c.Keys()...)
	if err != nil {
		return nil, err
	}
	if root := rootOf(opened.Plaintext); root != "signedmessage" {
		return nil, unauthenticated(opened.Plaintext, "the answer is not signed")
	}
	signed, err := ParseSigned(opened.Plaintext)
	if err != nil {
		return nil, err
	}
	// A Moodle that has moved may call itself by its old name until its key is
	// renewed (source: mnet/environment.php).
	if signed.Wwwroot != sealed.Wwwroot || !slices.ContainsFunc(peer.Names(), func(w gateway.Wwwroot) bool { return w.String() == signed.Wwwroot }) {
		return nil, fmt.Errorf("the answer claims to be from %.255q and %.255q", sealed.Wwwroot, signed.Wwwroot)
	}
	if err := signed.Verify(cert); err != nil {
		if offered, e := newKeyOf(peer, signed.Payload); e == nil {
			return nil, &HeldKeyError{Peer: peer, Certificate: offered}
		}
		return nil, err
	}
	if ahead := signed.Timestamp.Sub(c.now()); ahead > maxAhead {
		return nil, fmt.Errorf("the peer's clock is %s ahead of ours", ahead.Round(time.Second))
	}
	if behind := asked.Sub(signed.Timestamp); behind > maxBehind {
		return nil, fmt.Errorf("the answer is %s old", behind.Round(time.Second))
	}
	// Not earlier: anybody can seal something for us, and must not fill the
	// memory.
	if !c.answers.add(opened.Nonce) {
		return nil, errors.New("the answer is a copy of an earlier one: somebody on the way replays it")
	}
	return signed, nil
}

// unauthenticated returns the fault in an answer that lacks an envelope, or
// else an error with the given text.
func unauthenticated(doc []byte, text string) error {
	if rootOf(doc) == "signedmessage" { // as some faults are (section 3.4)
		if signed, err := ParseSigned(doc); err == nil {
			doc = signed.Payload
		}
	}
	_, err := DecodeResponse(doc)
	if fault, ok := errors.AsType[*Fault](err); ok {
		fault.Unauthenticated = true
		return fault
	}
	if err := noMessage(doc); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	return errors.New(text)
}

// Keyswap asks a site for its certificate by system/keyswap and tells it ours
// (section 5.1). The answer is as trustworthy as the connection: the caller
// compares the fingerprint. It does name the site.
func (c *Client) Keyswap(ctx context.Context, site gateway.Wwwroot, application gateway.Application) (*gateway.Certificate, error) {
	cert, err := c.keyswap(ctx, &gateway.Peer{Wwwroot: site, Application: application})
	if err != nil {
		return nil, fmt.Errorf("keyswap with %s: %w", site, err)
	}
	return cert, nil
}

// keyswap returns the certificate of a peer.
func (c *Client) keyswap(ctx context.Context, peer *gateway.Peer) (*gateway.Certificate, error) {
	doc := EncodeCall(keyswap, c.Site.String(), c.Keys()[0].Certificate().PEM(), string(peer.Application))
	body, err := c.post(ctx, peer.Wwwroot, peer.Application, doc)
	if err != nil {
		return nil, err
	}
	v, err := DecodeResponse(body)
	if err != nil {
		return nil, unauthenticated(body, err.Error())
	}
	return parseCertificateOf(peer, []byte(Text(v)))
}

// FetchCertificate fetches the current certificate of a peer: from
// /mnet/publickey.php, or by keyswap from Mahara, which has no such page. The
// certificate names the peer or an alias and has peer.Fingerprint if that is
// set. Where it is not, the connection is all there is to trust, so it must be verified TLS
// or lead to this machine.
func (c *Client) FetchCertificate(ctx context.Context, peer *gateway.Peer) (*gateway.Certificate, error) {
	if peer.Fingerprint.IsZero() && peer.Wwwroot.Scheme() != "https" && !peer.Wwwroot.Loopback() {
		return nil, fmt.Errorf("certificate of %s: without TLS anybody could hand us one: configure its fingerprint", peer.Wwwroot)
	}
	var cert *gateway.Certificate
	var err error
	if peer.Application == gateway.Mahara {
		cert, err = c.keyswap(ctx, peer)
	} else {
		var body []byte
		if body, err = c.do(ctx, http.MethodGet, peer.Wwwroot.String()+"/mnet/publickey.php", nil, maxFile); err == nil {
			cert, err = parseCertificateOf(peer, body)
		}
	}
	if err == nil {
		err = checkFingerprint(cert, peer)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", peer.Wwwroot, err)
	}
	return cert, nil
}

// parseCertificateOf reads the certificate of a peer, which must name it or an
// alias.
func parseCertificateOf(peer *gateway.Peer, pem []byte) (*gateway.Certificate, error) {
	cert, err := gateway.ParseCertificate(pem)
	if err != nil {
		return nil, err
	}
	if !cert.Names(peer.Names()...) {
		return nil, fmt.Errorf("the certificate with fingerprint %s names another site: %.255q", cert.Fingerprint(), cert.Name())
	}
	return cert, nil
}

func checkFingerprint(cert *gateway.Certificate, peer *gateway.Peer) error {
	if f := cert.Fingerprint(); !peer.Fingerprint.IsZero() && f != peer.Fingerprint {
		return fmt.Errorf("its fingerprint is %s, but %s is configured", f, peer.Fingerprint)
	}
	return nil
}

func (c *Client) post(ctx context.Context, site gateway.Wwwroot, application gateway.Application, doc []byte) ([]byte, error) {
	return c.do(ctx, http.MethodPost, site.String()+application.RPCPath(), doc, MaxBody)
}

// do returns the body of an answer with status 200.
func (c *Client) do(ctx context.Context, method, url string, doc []byte, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(doc))
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "Jumpgate")
	if doc != nil {
		request.Header.Set("Content-Type", "text/xml")
	}
	client := http.Client{}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	// A redirect could lead a key or a call to somebody else.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		return nil, gateway.Unquoted(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, &StatusError{url, response.StatusCode}
	}
	body, err := readAll(response.Body, limit)
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", url, gateway.Unquoted(err))
	}
	return body, nil
}

// StatusError is an answer with another HTTP status than 200.
type StatusError struct {
	URL    string
	Status int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s answered with HTTP status %d", e.URL, e.Status)
}

func (c *Client) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}
