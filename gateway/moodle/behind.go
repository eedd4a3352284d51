package moodle

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"jumpgate/gateway"
)

// BehindOptions says how to reach the Moodle behind.
type BehindOptions struct {
	Upstream  *url.URL          // where Moodle listens; the wwwroot's path is appended
	Site      gateway.Wwwroot   // what it is called: Host header and path
	Transport http.RoundTripper // nil for one that goes straight to the upstream
}

// Behind asks the Moodle behind for what needs no login.
type Behind struct {
	o      BehindOptions
	shares shares
}

// NewBehind returns a Behind. It does not connect.
func NewBehind(o BehindOptions) *Behind {
	if o.Transport == nil {
		o.Transport = newTransport()
	}
	return &Behind{o: o, shares: shares{turn: make(chan struct{}, 1)}}
}

// newTransport is not the default one: that may send the learner's cookie to a
// proxy which the environment names.
func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: webTimeout}).DialContext,
		TLSHandshakeTimeout:   webTimeout,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       4 * time.Second, // below the 5 s of an Apache
		ResponseHeaderTimeout: webTimeout,
	}
}

// newRequest builds a request to a page below the wwwroot.
func newRequest(ctx context.Context, upstream *url.URL, site gateway.Wwwroot, method, path string, body []byte) (*http.Request, error) {
	u := *upstream
	u.Path = strings.TrimSuffix(u.Path, "/") + site.Path() + path
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("upstream is not a usable URL")
	}
	req.Host = site.Host()
	req.Header.Set("X-Forwarded-Host", site.Host())
	req.Header.Set("X-Forwarded-Proto", site.Scheme())
	return req, nil
}

func (b *Behind) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	return newRequest(ctx, b.o.Upstream, b.o.Site, method, path, body)
}

var errAnswerTooLarge = errors.New("moodle's answer is too large")

// do returns an answer without its body, and of that at most limit bytes.
func (b *Behind) do(req *http.Request, limit int64) (*http.Response, []byte, error) {
	res, err := b.o.Transport.RoundTrip(req)
	if err != nil {
		return nil, nil, gateway.Unquoted(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = errAnswerTooLarge
	}
	return res, body, gateway.Unquoted(err)
}
