// Package proxy is the reverse proxy to the Moodle behind the gateway. It
// streams in both directions, cleans headers and cookies of what only the
// gateway may say, and lets its caller look at a response before the browser
// does.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"jumpgate/gateway"
)

// Limits that apply where Options names none.
const (
	DefaultDialTimeout           = 10 * time.Second
	DefaultResponseHeaderTimeout = 5 * time.Minute
	DefaultProgressTimeout       = 2 * time.Minute
)

// Options says what a Proxy connects. Upstream and Site are required.
type Options struct {
	// Upstream is where the Moodle answers: scheme, host and port only.
	// Certificates of an https upstream are verified.
	Upstream *url.URL
	// Site is the public address of the Moodle; its scheme becomes
	// X-Forwarded-Proto.
	Site gateway.Wwwroot
	// Trust says whose X-Forwarded-For is believed.
	Trust Trust
	// RequestID returns what becomes X-Request-Id; nil sends none.
	RequestID func(*http.Request) string
	// ErrorPage answers a request that got no response: 502 for an upstream
	// that is down, 504 for one that is late, 400, 408 or 413 for a request
	// (mostly its body) that could not be read, 405 for CONNECT and TRACE. Nil answers
	// with the status in plain text. The error is for the log: it may name
	// inner addresses, and quotes nothing of an answer.
	ErrorPage func(w http.ResponseWriter, r *http.Request, status int, err error)
	// Last looks at every response that is about to be passed on, after the
	// Inspect of Serve; nil for nobody.
	Last Inspect
	// DialTimeout limits connecting to the upstream.
	DialTimeout time.Duration
	// ResponseHeaderTimeout limits the wait for the upstream's answer once
	// the request is sent.
	ResponseHeaderTimeout time.Duration
	// ProgressTimeout limits the wait for the next piece of a request body
	// and for a stream of HTTP/2 to take the next piece of a response. The
	// like for whole connections is Listen's.
	ProgressTimeout time.Duration
}

// Proxy passes requests on to one upstream. It is safe for concurrent use.
type Proxy struct {
	upstream  url.URL
	scheme    []string
	trust     Trust
	requestID func(*http.Request) string
	errorPage func(http.ResponseWriter, *http.Request, int, error)
	last      Inspect
	progress  time.Duration
	transport *http.Transport
	links     *links // nil for an https upstream, and where sockets cannot be peeked into
}

// Inspect sees the header of the upstream's response, cleaned, before
// anything is written. It may change it or replace the body (and then has to
// keep Content-Length and ContentLength true), or write an answer of its own
// to w and return true.
type Inspect func(w http.ResponseWriter, r *http.Request, res *http.Response) (done bool)

// New returns a Proxy, or an error if the options make none.
func New(o Options) (*Proxy, error) {
	u := o.Upstream
	switch {
	case u == nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("upstream is not an http or https address")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, fmt.Errorf("upstream %s has more than scheme, host and port", u.Redacted())
	case o.Site.IsZero():
		return nil, errors.New("proxy without a site")
	}
	p := &Proxy{
		upstream:  url.URL{Scheme: u.Scheme, Host: u.Host},
		scheme:    []string{o.Site.Scheme()},
		trust:     o.Trust,
		requestID: o.RequestID,
		errorPage: o.ErrorPage,
		last:      o.Last,
		progress:  orDefault(o.ProgressTimeout, DefaultProgressTimeout),
		transport: newTransport(o),
	}
	if u.Scheme == "http" && canPeek {
		p.links = newLinks(o)
	}
	if p.errorPage == nil {
		p.errorPage = func(w http.ResponseWriter, _ *http.Request, status int, _ error) {
			http.Error(w, http.StatusText(status), status)
		}
	}
	return p, nil
}

// CloseIdle closes the connections to the upstream that no request uses. A
// Proxy that is replaced ends its requests and is then closed by this.
func (p *Proxy) CloseIdle() {
	p.transport.CloseIdleConnections()
	if p.links != nil {
		p.links.closeIdle()
	}
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// ServeHTTP passes r to the upstream and its response to w.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.Serve(w, r, nil) }

// Serve is ServeHTTP with a look at the response; inspect may be nil. The
// request target that the upstream gets is r.RequestURI, the bytes that came:
// changes to r.URL are without effect. A response that cannot be delivered
// whole ends in a panic with http.ErrAbortHandler, which aborts the
// connection, as does a client that goes away.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, inspect Inspect) {
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		p.errorPage(w, r, http.StatusMethodNotAllowed, fmt.Errorf("method %s is not passed on", r.Method))
		return
	}
	if t := target(r); t[0] != '/' && t != "*" || strings.Contains(r.RequestURI, "#") {
		// Other servers take a path out of "x:http://host/path", and end one
		// at a "#": nobody would have judged what they see.
		p.errorPage(w, r, http.StatusBadRequest, fmt.Errorf("request target %.200q is not a path", t))
		return
	}
	if !httpguts.ValidHostHeader(r.Host) { // HTTP/2 lets it through
		p.errorPage(w, r, http.StatusBadRequest, fmt.Errorf("host %q is not one", r.Host))
		return
	}
	x := &exchange{w: w, r: r, rc: http.NewResponseController(w), limit: p.progress}
	defer x.finish()
	upgrade := upgradeToken(r)
	res, err := p.roundTrip(x, r, upgrade)
	if err != nil {
		p.fail(w, r, x, gateway.Unquoted(err))
		return
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		p.tunnel(w, r, res, upgrade, inspect)
		return
	}
	defer res.Body.Close()
	cleanResponse(res.Header)
	if inspect != nil && inspect(w, r, res) || p.last != nil && p.last(w, r, res) {
		drain(res.Body)
		return
	}
	if x.body != nil && !x.bodyRead() && r.ProtoMajor == 1 {
		// The upstream did not wait for the request to end, and what is left
		// of it may never come: this connection is of no further use.
		res.Header["Connection"] = []string{"close"}
	}
	x.respond(res)
}

// roundTrip sends r to the upstream.
func (p *Proxy) roundTrip(x *exchange, r *http.Request, upgrade string) (*http.Response, error) {
	header := p.requestHeader(r, upgrade)
	if p.links != nil && upgrade == "" && plainRequest(r) {
		host := r.Host
		if host == "" {
			host = p.upstream.Host
		}
		return p.links.roundTrip(r.Context(), r.Method, target(r), host, header, x.informational)
	}
	defer x.answered()
	return p.transport.RoundTrip(p.outgoing(x, r, header))
}

// outgoing returns the request for the transport. It shares with r whatever
// need not differ.
func (p *Proxy) outgoing(x *exchange, r *http.Request, header http.Header) *http.Request {
	out := r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error { return x.informational(code, http.Header(h)) },
	}))
	u := p.upstream
	setTarget(&u, target(r))
	out.URL = &u
	out.Header = header
	out.TransferEncoding = nil
	// A final answer where 100 was expected means that the body is not wanted.
	// The transport would send it all the same, to be able to go on.
	out.Close = header["Expect"] != nil
	out.Body = nil
	if r.ContentLength != 0 && r.Body != nil {
		// Without this, a response could not begin before the body has been
		// read; HTTP/2 always works so and says it is not supported.
		_ = x.rc.EnableFullDuplex()
		x.body, x.trailer = r.Body, r.Trailer
		out.Body = x
		dropTrailers(out.Trailer)
	}
	return out
}

// fail answers a request that got no response.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, x *exchange, err error) {
	status, bodyErr := x.bodyError()
	var timeout net.Error
	switch {
	case status == http.StatusRequestTimeout || status == http.StatusRequestEntityTooLarge:
		err = bodyErr
	case errors.Is(r.Context().Err(), context.Canceled):
		panic(http.ErrAbortHandler) // nobody is there to be answered
	case bodyErr != nil:
		err = bodyErr
	case errors.As(err, &timeout) && timeout.Timeout():
		status = http.StatusGatewayTimeout
	default:
		status = http.StatusBadGateway
	}
	p.errorPage(w, r, status, err)
}

const (
	drainBytes = 64 << 10
	drainTime  = 100 * time.Millisecond
)

// drain reads the little that may be left of a body, so that the connection
// can be used again, and closes it.
func drain(body io.ReadCloser) {
	stop := time.AfterFunc(drainTime, func() { body.Close() })
	defer stop.Stop()
	_, _ = io.CopyN(io.Discard, body, drainBytes)
	body.Close()
}
