<?php

use Symfony\Component\Lock\Store\SemaphoreStore;

$store = new SemaphoreStore();
