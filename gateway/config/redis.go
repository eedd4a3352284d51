package config

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

const (
	redisPort    = "6379"
	sentinelPort = "26379"
	maxAddresses = 64
	hintRedis    = "write embedded, redis://host:6379, rediss://host:6379 for TLS, unix:///run/redis.sock, or a mapping with url or addresses"
)

// redis reads how to reach a Redis: the word embedded, a URL or a mapping.
func (r *report) redis(v *value, name string) (*Redis, bool) {
	before := r.count()
	var c *Redis
	if v.kind == mapping {
		c = r.redisObject(v, name)
	} else if text, ok := r.plain(v, name); ok {
		if text == "embedded" {
			return &Redis{Embedded: true}, true
		}
		c = r.redisURL(v.at, text, name)
	}
	return c, r.count() == before
}

func (r *report) redisURL(at place, text, name string) *Redis {
	if at.flag != "" { // no line shows what was written
		name = strconv.Quote(text)
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.RawQuery != "" || u.Fragment != "" {
		r.errorf(at, hintRedis, "%s is not the address of a Redis", name)
		return nil
	}
	if _, given := u.User.Password(); given {
		hint := "write a mapping: url, without the password, and password_file or password_env"
		if at.flag != "" {
			hint = "leave it out and give " + at.flag + "-password-file"
		}
		r.errorf(at, hint, "%s has a password in it: secrets come by file or environment only", name)
		return nil
	}
	c := &Redis{Username: u.User.Username()}
	switch {
	case u.Scheme == "unix" && u.Host == "" && path.IsAbs(u.Path):
		c.Addresses = []string{u.Path}
		return c
	case u.Scheme == "rediss":
		c.TLS = &ServerTLS{Config: &tls.Config{MinVersion: tls.VersionTLS12}}
	case u.Scheme != "redis":
		r.errorf(at, hintRedis, "%s is not the address of a Redis", name)
		return nil
	}
	if address, ok := redisAddress(u.Host, redisPort); ok {
		c.Addresses = []string{address}
	} else {
		r.errorf(at, hintRedis, "%s has no host, or a port that is not a number from 1 to 65535", name)
	}
	if database := strings.Trim(u.Path, "/"); database != "" {
		n, err := strconv.ParseUint(database, 10, 16)
		if err != nil {
			r.errorf(at, "leave it out for database 0, or write redis://host:6379/1", "the database %q at the end of %s is not a number", database, name)
		}
		c.Database = int(n)
	}
	return c
}

func (r *report) redisObject(v *value, name string) *Redis {
	o := r.object(v, name, redisFields)
	c := &Redis{}
	if url := o.get("url"); url != nil {
		if text, ok := o.plain(url, name); ok {
			c = cmp.Or(o.redisURL(url.at, text, name), c)
		}
		for _, key := range []string{"addresses", "master_name", "cluster", "username", "database"} {
			if o.has(key) {
				o.errorf(o.place(key), "leave it out, or write addresses instead of url", "the url of %s already says it: %q", name, key)
			}
		}
	} else {
		o.redisServers(c, name)
	}
	c.Password, c.PasswordFile, c.PasswordEnv = o.secret("password_file", "password_env")
	if o.has("tls") {
		c.TLS = o.serverTLS(o.get("tls"))
	}
	return c
}

// redisServers reads where the servers are, one by one.
func (o object) redisServers(c *Redis, name string) {
	c.MasterName = o.text("master_name", "")
	c.Cluster = o.flag("cluster")
	c.Database = int(o.number("database", 0, 0, 65535))
	c.Username = o.text("username", "")
	if !o.require("addresses", name, "url: redis://host:6379, or addresses: [host:6379]") {
		return
	}
	port := redisPort
	if c.MasterName != "" {
		port = sentinelPort
	}
	items := o.list("addresses")
	if v := o.get("addresses"); v.kind == list && (len(items) == 0 || len(items) > maxAddresses) {
		o.errorf(v.at, "addresses: [host:6379]", "%s has %d addresses, not 1 to %d", name, len(items), maxAddresses)
		return
	}
	for _, item := range items {
		text, ok := o.plain(item, "an address of "+name)
		if single := len(items) == 1 && c.MasterName == "" && !c.Cluster; ok && !(single && path.IsAbs(text)) {
			if text, ok = redisAddress(text, port); !ok {
				o.errorf(item.at, "write host:6379; or, for a single server, the path of its Unix socket", "%s is not an address", item.show())
			}
		}
		c.Addresses = append(c.Addresses, text)
	}
	switch {
	case c.MasterName != "" && c.Cluster:
		o.errorf(o.place("cluster"), "keep master_name for sentinels, or cluster for a cluster",
			"%s cannot be both behind sentinels and a cluster", name)
	case c.MasterName == "" && !c.Cluster && len(c.Addresses) > 1:
		o.errorf(o.place("addresses"), "add cluster: true, or the sentinels' master_name",
			"%s has several addresses and does not say why", name)
	case c.Cluster && c.Database != 0:
		o.errorf(o.place("database"), "leave it out", "a Redis cluster has no database but 0")
	}
}

func (r *report) serverTLS(v *value) *ServerTLS {
	o := r.object(v, `"tls"`, serverTLSFields)
	t := &ServerTLS{
		CAFile:          o.path("ca_file"),
		CertificateFile: o.path("certificate"),
		KeyFile:         o.path("key"),
		ServerName:      o.text("server_name", ""),
	}
	t.Config = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		if b, ok := o.read("ca_file", t.CAFile); ok {
			t.Config.RootCAs = x509.NewCertPool()
			if !t.Config.RootCAs.AppendCertsFromPEM(b) {
				o.errorf(o.place("ca_file"), "it must begin with -----BEGIN CERTIFICATE-----; without ca_file the system's authorities are trusted", "%s holds no PEM certificate", t.CAFile)
			}
		}
	}
	if pair, ok := o.keyPair("certificate", "key", t.CertificateFile, t.KeyFile); ok {
		t.Config.Certificates = []tls.Certificate{pair}
	}
	return t
}

// keyPair loads a certificate and its key, or reports that only one is given.
func (o object) keyPair(certKey, keyKey, certFile, keyFile string) (tls.Certificate, bool) {
	if certFile == "" && keyFile == "" {
		return tls.Certificate{}, false
	}
	if !o.require(certKey, "the TLS certificate", "give both files") ||
		!o.require(keyKey, "the TLS certificate", "give both files") || certFile == "" || keyFile == "" {
		return tls.Certificate{}, false
	}
	certificate, ok := o.read(certKey, certFile)
	key, ok2 := o.readSecret(keyKey, keyFile)
	if !ok || !ok2 {
		return tls.Certificate{}, false
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		o.errorf(o.place(certKey), "both must be PEM, and the key must be that of the first certificate",
			"cannot use the TLS certificate: %s", strings.TrimPrefix(err.Error(), "tls: "))
		return tls.Certificate{}, false
	}
	return pair, true
}

// redisAddress completes host[:port] with the usual port.
func redisAddress(text, port string) (string, bool) {
	if host, err := hostPort(text, 1); err == nil && host != "" {
		return text, true
	}
	host := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	text = net.JoinHostPort(host, port)
	host, err := hostPort(text, 1)
	return text, err == nil && host != ""
}
